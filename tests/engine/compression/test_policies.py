"""Each policy against its defining equation, in float64 and by loops, from what plain transformers attends to."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.compression.compress import score
from engine.compression.policies import cascading, chunkkv, keyformer, own_attention
from engine.compression.policies.base import Subject
from engine.kvcache.blocks import by_layer
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import POLICIES, parse
from engine.kvcache.suffix import SuffixCache
from engine.runtime.runner import Runner
from tests import tiny_families
from tests.engine.reading import compress, plain, read, runner_of, some_ids

SINKS, RECENT, TOKENS = 4, 32, 200
FAR = range(SINKS, TOKENS - RECENT)
SLOTS = 66
"""40 % of the distant ones."""
TWICE = [name for name, policy in POLICIES.items() if policy.passes]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_attention, "chunk_tokens", lambda device: 64)
    monkeypatch.setattr(own_attention, "_LOGITS_AT_ONCE", 10_000)
    monkeypatch.setattr("engine.compression.policies.reread.CHUNK_TOKENS", 64)


def layout(runner: Runner, name: str, percent: int = 40) -> Layout:
    shape = runner.model.shape
    own = tuple((layer,) * shape.kv_heads for layer in range(shape.layers))
    return Layout(parse(f"keep{percent}:{name}+near{SINKS},{RECENT}"), own)


def kept(runner: Runner, ids: Sequence[int], name: str, percent: int = 40) -> list[list[list[int]]]:
    """Distant tokens that stay, by layer and KV head."""
    pod = compress(runner, ids, read(runner, ids), layout(runner, name, percent))
    heads = range(runner.model.shape.kv_heads)
    distant = [pod.segments(layer)[1] for layer in range(runner.model.shape.layers)]
    return [[each.places(head).tolist() for head in heads] for each in distant]


def attention(runner: Runner, ids: Sequence[int]) -> Tensor:
    """What plain transformers attends to, (L, H, T, T) in float64."""
    with plain(runner, "eager") as network, torch.inference_mode():
        found = network.double()(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
        network.float()
    return torch.stack([each[0] for each in found])


def logits(runner: Runner, pod: AnyPod, ids: Sequence[int]) -> Tensor:
    return runner.run(runner.context([pod], SuffixCache(runner.model.shape, len(ids), runner.model.device)), ids)


def best(worth: Sequence[float], count: int) -> list[int]:
    """Distant tokens with the best of as many numbers, the later of equals."""
    return sorted(sorted(FAR, key=lambda token: (worth[token], token))[-count:])


@pytest.mark.parametrize("name", [name for name, policy in POLICIES.items() if not policy.summary])
def test_exactly_the_budget_stays_and_answers_alike_after_storing(name: str, llama_runner: Runner) -> None:
    runner, ids, plan = llama_runner, some_ids(llama_runner, TOKENS, 1), layout(llama_runner, name, 60)
    pod = compress(runner, ids, read(runner, ids), plan)
    number = sum(len(segment.places(head)) for layer in range(4) for segment in pod.segments(layer) for head in (0, 1))
    slots = plan.recipe.selection.slots
    assert number - 8 * (SINKS + RECENT) == (slots(8 * len(FAR)) if POLICIES[name].pooled else 8 * slots(len(FAR)))
    loader = by_layer.QuantizedLoader(plan, runner.model.shape, TOKENS, runner.model.device)
    for block in by_layer.to_blocks(pod):
        loader.add(block.meta, memoryview(bytearray(block.payload)))
    asked = some_ids(runner, 9, 2)
    first, again = (logits(runner, each, asked) for each in (pod, loader.finish()))
    assert torch.equal(first, again) and first.isfinite().all()


@pytest.mark.parametrize("name", TWICE)
def test_an_interrupted_reading_comes_to_the_same_scores(name: str, llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, TOKENS, 3)
    exact, plan = read(llama_runner, ids), layout(llama_runner, name)
    whole = list(score(llama_runner, ids, exact, plan))
    assert [each.done for each in whole] == [64, 128, 192, 200]
    rest = list(score(llama_runner, ids, exact, plan, Scores(128, whole[1].values.clone())))
    assert [each.done for each in rest] == [192, 200]
    assert torch.equal(rest[-1].values, whole[-1].values)
    assert list(score(llama_runner, ids, exact, plan, rest[-1])) == []


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_sepllm_keeps_separators_and_then_the_latest(seed: int, llama_runner: Runner) -> None:
    text = "".join("ab.c, d?e!f;g:\nh\t-/"[n % 19] for n in some_ids(llama_runner, TOKENS, seed))
    ids, _ = llama_runner.model.tokenizer.encode(text)
    for percent in (20, 40):
        count = parse(f"keep{percent}").selection.slots(len(FAR))
        expected = best([text[token] in ".,?!;: \n\t" for token in range(TOKENS)], count)
        found = kept(llama_runner, ids, "sepllm", percent)
        assert all(head == expected for each in found for head in each)


@pytest.mark.parametrize("seed", (1, 2, 3))
@pytest.mark.parametrize("length", (10, 20))
def test_chunkkv_keeps_chunks_that_the_last_tokens_look_at(seed: int, length: int, llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, TOKENS, seed)
    seen = attention(llama_runner, ids)[:, :, -chunkkv.OBSERVED :].sum((1, 2))
    chunks = [list(FAR[start : start + length]) for start in range(0, len(FAR), length)]
    for layer, found in enumerate(kept(llama_runner, ids, f"chunk{length}")):
        worth = seen[layer - layer % 2]
        chunks.sort(key=lambda chunk: -worth[chunk].mean())
        expected = sorted([token for chunk in chunks for token in chunk][:SLOTS])
        assert all(head == expected for head in found)


def test_l2norm_keeps_the_first_layers_whole_and_the_smallest_keys_of_the_others(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, TOKENS, 4)
    exact = read(llama_runner, ids)
    found = kept(llama_runner, ids, "l2norm", 75)
    for layer in (0, 1):
        assert all(head == list(FAR) for head in found[layer])
    for layer in (2, 3):
        for head, places in enumerate(found[layer]):
            assert len(places) == len(FAR) / 2
            assert places == best((-exact.keys[layer, head].double().norm(dim=-1)).tolist(), len(places))


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_keyformer_sums_softmax_of_noisy_logits(seed: int, llama_runner: Runner) -> None:
    runner, ids = llama_runner, some_ids(llama_runner, TOKENS, seed)
    # What lacks of a logit is the same for all keys of a query.
    logits = attention(runner, ids).log()
    found = kept(runner, ids, "keyformer")
    steps = list(score(runner, ids, read(runner, ids), layout(runner, "keyformer")))
    window = round(0.3 * (SINKS + RECENT + SLOTS))
    for layer in range(4):
        noise = keyformer.gumbel(layer, 4, TOKENS).double()
        for group in (0, 1):
            worth = torch.zeros(TOKENS, dtype=torch.float64)
            for head in (2 * group, 2 * group + 1):
                for query in range(TOKENS):
                    terms = ((logits[layer, head, query] + noise[head]) / 1.0).exp()
                    worth += terms / terms.sum()
            got = steps[-1].values[layer, group].double()
            torch.testing.assert_close(got[:-window], worth[:-window], rtol=1e-4, atol=1e-5)
            assert got[-window:].min() > got[:-window].max()
            last = max(0, window - RECENT)
            assert {*range(FAR.stop - last, FAR.stop)} <= {*found[layer][group]}
    assert all(len(head) == SLOTS for each in found for head in each)


def test_keyformers_noise_is_of_the_standard_gumbel_distribution() -> None:
    noise = keyformer.gumbel(0, 4, 50_000)
    assert noise.mean() == pytest.approx(0.5772, abs=0.01) and noise.std() == pytest.approx(1.2825, abs=0.01)
    assert torch.equal(noise, keyformer.gumbel(0, 4, 50_000)) and not torch.equal(noise, keyformer.gumbel(1, 4, 50_000))


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_cascading_keeps_what_sub_caches_held_by_a_moving_average(
    seed: int, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small one shows more of what it does in a short text.
    monkeypatch.setattr(cascading, "BETA", 0.95)
    ids = some_ids(llama_runner, TOKENS, seed)
    seen = attention(llama_runner, ids)
    for layer, found in enumerate(kept(llama_runner, ids, "cascading")):
        average = torch.zeros(TOKENS, dtype=torch.float64)
        for query in range(TOKENS):
            average = 0.95 * average + 0.05 * seen[layer, :, query].amax(0)
        expected = sorted(token + FAR.start for token in held(average[FAR.start : FAR.stop].tolist(), SLOTS))
        assert all(head == expected for head in found)


@pytest.mark.parametrize("slots", (3, 8, 40, 61))
def test_a_cascade_is_sparser_by_half_from_one_cache_to_the_next(slots: int) -> None:
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(slots)).tolist()
    assert sorted(cascading.cascade(scores, slots)) == sorted(held(scores, slots))
    tokens = cascading.cascade([0.0] * 5000, slots)
    assert len({*tokens}) == slots
    if slots == 40:
        # The first caches have let go of all that came while everything was taken.
        gaps = [-(later - token) for token, later in zip(tokens[1:], tokens, strict=False)]
        assert [set(gaps[5 * c : 5 * c + 4]) for c in range(5)] == [{2**c} for c in range(5)]


def held(scores: Sequence[float], slots: int) -> list[int]:
    """The specification of a cascade, which offers a token to each cache in turn."""
    caches: list[list[int]] = [[] for _ in range(8)]
    sizes = [slots * (c + 1) // 8 - slots * c // 8 for c in range(8)]
    offers = [0] * 8

    def offer(c: int, token: int, filling: bool) -> None:
        if c == 8:
            return
        if not sizes[c]:
            offer(c + 1, token, filling)
            return
        offers[c] += 1
        first = all(not size for size in sizes[:c])
        if first or filling or offers[c] % 2 == 0:
            caches[c].append(token)
            if len(caches[c]) > sizes[c]:
                offer(c + 1, caches[c].pop(0), filling)
        elif scores[token] > scores[caches[c][-1]]:
            caches[c][-1] = token

    for token in range(len(scores)):
        offer(0, token, sum(map(len, caches)) < slots)
    return [token for cache in caches for token in cache]


@pytest.mark.parametrize("name", ("chunk10", "keyformer", "cascading"))
def test_layers_with_a_state_are_read_from_the_beginning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(tiny_families.build("lfm2"))
    ids = some_ids(runner, TOKENS, 5)
    exact, plan = read(runner, ids), layout(runner, name)
    pieces = list(score(runner, ids, exact, plan))
    monkeypatch.setattr(own_attention, "chunk_tokens", lambda device: 1000)
    (whole,) = score(runner, ids, exact, plan)
    torch.testing.assert_close(pieces[-1].values, whole.values, rtol=1e-3, atol=1e-4)


def test_tokens_before_the_first_are_not_asked() -> None:
    runner = runner_of(tiny_families.build("lfm2"))
    ids = some_ids(runner, TOKENS, 6)
    subject = Subject(runner, ids, read(runner, ids), parse("keep40:chunk10"))
    *_, scores = own_attention.own_attention(subject, None, chunkkv._add, TOKENS - 20)
    heads = runner.model.network.config.num_attention_heads
    torch.testing.assert_close(scores.values.sum(-1), torch.full(scores.values.shape[:2], 20.0 * heads))


def test_no_token_is_left_alone_for_the_last_step(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor takes a single token by one call, on a way that shows no queries."""
    monkeypatch.setattr(own_attention, "chunk_tokens", lambda device: TOKENS - 1)
    ids = some_ids(llama_runner, TOKENS, 7)
    (whole,) = score(llama_runner, ids, read(llama_runner, ids), layout(llama_runner, "keyformer"))
    assert whole.done == TOKENS
