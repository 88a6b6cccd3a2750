"""Policies and selection: exactly as many slots stay as the recipe says, the best ones, and never an exact one less."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod, score
from engine.compression.policies import reread
from engine.compression.policies.base import Subject
from engine.compression.top_k import top_k
from engine.core.errors import WindowExceeded
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import POLICIES, Recipe, parse
from engine.runtime.runner import Runner
from tests.engine.reading import compress, plain_logits, read, some_ids
from tests.engine.shapes import check

LAYERS, HEADS, FAR = 4, 2, 50
OWN = tuple((layer,) * HEADS for layer in range(LAYERS))
SHARED = ((0, 0), (0, 1), (0, 1), (3, 1))


def layout(text: str, roots: Sequence[Sequence[int]] = OWN) -> Layout:
    return Layout(parse(text), tuple(map(tuple, roots)))


def some_scores(seed: int = 0) -> Tensor:
    return torch.rand(LAYERS, HEADS, FAR, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("percent", (2, 30, 50, 98))
def test_the_best_stay_and_exactly_as_many_as_said(percent: int) -> None:
    scores = some_scores()
    pooled = top_k(scores, layout(f"keep{percent}"), True)
    assert pooled.sum() == round(percent / 100 * scores.numel())
    assert scores[pooled].min() > scores[~pooled].max()
    each = top_k(scores, layout(f"keep{percent}"), False)
    assert (each.sum(-1) == round(percent / 100 * FAR)).all()
    for layer in range(LAYERS):
        for head in range(HEADS):
            mine, kept = scores[layer, head], each[layer, head]
            assert not kept.any() or mine[kept].min() > mine[~kept].max()


@pytest.mark.parametrize("pooled", (True, False))
def test_layers_that_share_keys_keep_the_same_slots(pooled: bool) -> None:
    scores = some_scores()
    kept = top_k(scores, layout("A35+keep40", SHARED), pooled)
    for layer, row in enumerate(SHARED):
        for head, root in enumerate(row):
            assert torch.equal(kept[layer, head], kept[root, head])
    # At most one block's worth of slots below what was asked for.
    assert round(0.4 * scores.numel()) - 4 < kept.sum() <= round(0.4 * scores.numel()) or not pooled
    best = scores[:3, 0].amax(0)
    assert best[kept[0, 0]].min() > best[~kept[0, 0]].max()


@pytest.mark.parametrize("name", [name for name, policy in POLICIES.items() if not policy.summary])
def test_every_policy_keeps_the_contract(name: str, llama_runner: Runner) -> None:
    """Scores for every slot; sinks and recent tokens stay exact; positions ascend; the same again for the same seed."""
    runner = llama_runner
    ids = some_ids(runner, 200, 1)
    exact = read(runner, ids)
    before = exact.keys.clone()
    plan = layout(f"keep60:{name}+near4,32")
    steps = list(score(runner, ids, exact, plan))
    assert steps[-1].done == len(ids) and steps[-1].values.shape == exact.keys.shape[:3]
    assert steps[-1].values.isfinite().all()
    pod = compress(runner, ids, exact, plan)
    check(pod)
    proximal, _ = pod.segments(2)
    assert proximal.places(0).tolist() == [*range(4), *range(168, 200)]
    assert torch.equal(proximal.keys, exact.keys[2][:, proximal.places(0)])
    total = 0
    for layer in range(LAYERS):
        for head in range(HEADS):
            places = pod.segments(layer)[1].places(head)
            total += len(places)
            assert (places.diff() > 0).all() and places.min() >= 4 and places.max() < 168
    assert total == round(0.6 * 164 * LAYERS * HEADS) or not POLICIES[name].pooled
    again = compress(runner, ids, exact, plan)
    assert all(torch.equal(a.places(1), b.places(1)) for a, b in zip(pod.segments(1), again.segments(1), strict=True))
    assert torch.equal(exact.keys, before)


def test_streaming_keeps_the_last_and_key_norm_the_smallest(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, 100, 2)
    exact = read(llama_runner, ids)
    places = compress(llama_runner, ids, exact, layout("keep50:streaming+near4,16")).segments(0)[1].places(0)
    assert places.tolist() == [*range(44, 84)]
    distant = exact.keys[1, 0, 4:84].norm(dim=-1)
    places = compress(llama_runner, ids, exact, layout("keep25:norm+near4,16")).segments(1)[1].places(0)
    assert places.tolist() == sorted((distant.topk(20, largest=False).indices + 4).tolist())


def test_short_texts_are_kept_whole_without_asking(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, 30, 3)
    exact = read(llama_runner, ids)
    plan = layout("keep10+k4v4+near4,32")
    assert list(score(llama_runner, ids, exact, plan)) == []
    pod = pack_pod(exact, plan)
    assert torch.equal(pod.proximal.keys, exact.keys) and pod.nbytes == exact.nbytes


def test_rereading_scores_are_the_most_attention_of_the_repetition(
    llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against plain transformers in float64: text, request and repetition in one pass, attention read off."""
    runner = llama_runner
    monkeypatch.setattr(reread, "CHUNK_TOKENS", 40)
    ids = some_ids(runner, 100, 4)
    exact = read(runner, ids)
    expected = torch.zeros(LAYERS, HEADS, len(ids), dtype=torch.float64)
    for start in range(0, len(ids), 40):
        asked = reread._asked(runner, ids[max(0, start - 8) : start])
        whole = [*ids, *asked, *ids[start : start + 40]]
        network = runner.model.network
        network.set_attn_implementation("eager")
        seen = network.double()(torch.tensor([whole]), output_attentions=True, use_cache=False).attentions
        network.float().set_attn_implementation("docpod")
        for layer, mass in enumerate(seen):
            most = mass[0, :, len(ids) :, : len(ids)].amax(1)
            expected[layer] = torch.maximum(expected[layer], most.view(HEADS, -1, len(ids)).amax(1))
    scores = list(reread.reread(Subject(runner, ids, exact, Recipe()), None))
    assert [each.done for each in scores] == [40, 80, 100]
    torch.testing.assert_close(scores[-1].values.double(), expected, rtol=1e-4, atol=1e-6)
    assert plain_logits(runner, ids).isfinite().all()


def test_rereading_goes_on_where_it_was(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reread, "CHUNK_TOKENS", 32)
    ids = some_ids(llama_runner, 100, 5)
    subject = Subject(llama_runner, ids, read(llama_runner, ids), Recipe())
    whole = list(reread.reread(subject, None))
    known = Scores(whole[1].done, whole[1].values.clone())
    rest = list(reread.reread(subject, known))
    assert [each.done for each in rest] == [96, 100]
    assert torch.equal(rest[-1].values, whole[-1].values)
    assert list(reread.reread(subject, rest[-1])) == []


def test_rereading_without_room_is_refused(llama_runner: Runner) -> None:
    window = llama_runner.model.window
    ids = some_ids(llama_runner, window - 20, 6)
    with pytest.raises(WindowExceeded, match="no room to repeat"):
        list(reread.reread(Subject(llama_runner, ids, read(llama_runner, ids, 512), Recipe()), None))
