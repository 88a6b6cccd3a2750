"""Compressed pods: attention against a slow float64 reference, their bytes, and the way to the disk and back."""

import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.core.errors import PodMismatch
from engine.core.lse import reference
from engine.core.quant import dequantize, hadamard, quantize
from engine.core.rope import Angles
from engine.kvcache.blocks.by_layer import QuantizedLoader, to_blocks
from engine.kvcache.exact import Pod
from engine.kvcache.key_maps import KeyMaps
from engine.kvcache.layout import Layout, expected_bytes
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.offload import tensor_tree
from engine.runtime.context import Context
from engine.runtime.runner import Runner
from tests.engine.reading import ask, compress, greedy, read, some_ids
from tests.engine.shapes import check, uniform

LAYERS, GROUPS, HEADS, DIM, TOKENS = 5, 2, 4, 16, 150
SHAPE = uniform(LAYERS, GROUPS, DIM, torch.float32)
CPU = torch.device("cpu")
OWN = tuple((layer,) * GROUPS for layer in range(LAYERS))
SHARED = ((0, 0), (0, 1), (0, 1), (3, 1), (3, 4))
RECIPES = (
    "k8v8",
    "k4v3",
    "k2v2h",
    "keep40:random",
    "keep40:norm+k4v4",
    "A35",
    "B35",
    "A35+k4v4",
    "B35+keep40:random+k4v3",
    "A35+keep30:norm",
    "k16v4h",
    "B35+keep40:norm+k4v4h",
    "linear35",
    "linear35r2+k4v3h",
    "linear35r3+k4v4",
)


def layout(text: str, proximal: str = "near4,32") -> Layout:
    recipe = parse(f"{text}+{proximal}")
    if recipe.sharing.mode == "linear":
        generator = torch.Generator().manual_seed(9)
        weights = {
            layer: 0.1 * torch.randn((1 + min(3, layer + 1)) * GROUPS * DIM + 1, GROUPS * DIM, generator=generator)
            for layer in (1, 2, 4)
        }
        maps = KeyMaps((0, 0, 0, 3, 3), weights, Angles(0.5 ** torch.arange(DIM // 2)), {})
        return Layout(recipe, tuple((root,) * GROUPS for root in maps.roots), maps)
    return Layout(recipe, SHARED if recipe.sharing.mode else OWN)


def random_pod(tokens: int = TOKENS, dtype: torch.dtype = torch.float32) -> Pod:
    generator = torch.Generator().manual_seed(tokens)
    keys, values = torch.randn(2, LAYERS, GROUPS, tokens, DIM, generator=generator).to(dtype)
    return Pod(keys, values, torch.arange(tokens), tokens)


def attended(pods: Sequence[AnyPod], queries: Tensor, heads: Sequence[tuple[int, int]] = ()) -> tuple[Tensor, Context]:
    """What every layer makes of its queries (L, H, Q, D) in front of the pods, with new keys and values of zeros."""
    context = Context(pods, SuffixCache(SHAPE, 8, CPU), reference, heads)
    new = torch.zeros(GROUPS, queries.shape[2], DIM)
    return torch.stack([context.attend(layer, queries[layer], new, new, 0.25) for layer in range(LAYERS)]), context


def some_queries(count: int = 3) -> Tensor:
    return torch.randn(LAYERS, HEADS, count, DIM, generator=torch.Generator().manual_seed(77))


def far_keys(pod: QuantizedPod, exact: Pod, layer: int, group: int) -> tuple[Tensor, Tensor]:
    """Positions and keys of the distant slots by the definition, in float64: the root's, quantized, or predicted."""
    plan = pod.layout
    first, last = 4, exact.num_tokens - 32
    kept = pod.segments(layer)[1].places(group)
    root = plan.roots[layer][group]

    def coded(rows: Tensor, bits: int) -> Tensor:
        if bits == 16:
            return rows
        if plan.recipe.precision.rotate:
            rows = rows @ hadamard(DIM, CPU)
        read = dequantize(quantize(rows, bits, "channel"), torch.float32)
        return read @ hadamard(DIM, CPU) if plan.recipe.precision.rotate else read

    if plan.maps is None:
        return kept, coded(exact.keys[root, group][kept], plan.recipe.precision.keys).double()
    if root == layer:
        return kept, coded(exact.keys[layer, group, first:last], plan.recipe.precision.keys).double()
    below = torch.cat([bare(far_keys(pod, exact, root, each)[1], kept) for each in range(GROUPS)], 1)
    sources = [(each, head) for each in range(max(0, layer - 2), layer + 1) for head in range(GROUPS)]
    values = torch.cat([far_values(pod, exact, *each) for each in sources], 1)
    inputs = torch.cat([below, values, torch.ones(last - first, 1, dtype=torch.float64)], 1)
    own = slice(group * DIM, (group + 1) * DIM)
    predicted = bare(inputs @ plan.maps.weights[layer][:, own].double(), kept, 1)
    if not plan.recipe.sharing.residual_bits:
        return kept, predicted
    missed = (exact.keys[layer, group, first:last].double() - predicted).float()
    return kept, predicted + coded(missed, plan.recipe.sharing.residual_bits).double()


def bare(keys: Tensor, positions: Tensor, direction: int = -1) -> Tensor:
    """Keys with their positions taken off, or put on: pairs of channels as complex numbers, in float64."""
    turns = torch.polar(torch.ones(1).double(), direction * positions[:, None].double() * 0.5 ** torch.arange(DIM // 2))
    pairs = torch.complex(keys[:, : DIM // 2], keys[:, DIM // 2 :]) * turns
    return torch.cat([pairs.real, pairs.imag], 1)


def far_values(pod: QuantizedPod, exact: Pod, layer: int, group: int) -> Tensor:
    """Values of the distant slots by the definition, in float64."""
    plan = pod.layout.recipe
    values = exact.values[layer, group][pod.segments(layer)[1].places(group)]
    if plan.precision.values == 16:
        return values.double()
    rotation = hadamard(DIM, CPU) if plan.precision.rotate else torch.eye(DIM)
    return (dequantize(quantize(values @ rotation, plan.precision.values, "token"), torch.float32) @ rotation).double()


def by_hand(pod: QuantizedPod, exact: Pod, queries: Tensor) -> Tensor:
    """One softmax per layer, head and query over near, far and new tokens, in float64."""
    plan, proximal = pod.layout, pod.proximal.positions
    out = torch.zeros(queries.shape, dtype=torch.float64)
    for layer in range(LAYERS):
        for head in range(HEADS):
            group = head // (HEADS // GROUPS)
            keys = far_keys(pod, exact, layer, group)[1]
            values = far_values(pod, exact, layer, group)
            asking = plan.roots[layer][group] if plan.recipe.sharing.mode == "A" else layer
            for query in range(queries.shape[2]):
                own, distant = queries[layer, head, query].double(), queries[asking, head, query].double()
                logits = torch.cat(
                    [
                        exact.keys[layer, group][proximal].double() @ own,
                        keys @ distant,
                        torch.zeros(query + 1, dtype=torch.float64),
                    ]
                )
                everything = torch.cat(
                    [
                        exact.values[layer, group][proximal].double(),
                        values,
                        torch.zeros(query + 1, DIM, dtype=torch.float64),
                    ]
                )
                out[layer, head, query] = (logits * 0.25).softmax(0) @ everything
    return out


@pytest.mark.parametrize("text", RECIPES)
def test_attention_against_a_slow_reference(text: str, llama_runner: Runner) -> None:
    exact, plan = random_pod(), layout(text)
    pod = compress(llama_runner, range(TOKENS), exact, plan)
    check(pod)
    queries = some_queries()
    expected = by_hand(pod, exact, queries)
    for form in (pod, pod.open(), restored(pod)):
        got, _ = attended([form], queries)
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)
    one = some_queries(1)
    torch.testing.assert_close(attended([pod], one)[0].double(), by_hand(pod, exact, one), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", "AB")
def test_blocks_of_one_layer_are_dense_attention(mode: str) -> None:
    exact, queries = random_pod(), some_queries()
    plan = Layout(parse(f"{mode}35+near4,32"), OWN)
    torch.testing.assert_close(attended([pack_pod(exact, plan)], queries)[0], attended([exact], queries)[0])


@pytest.mark.parametrize("text", RECIPES)
@pytest.mark.parametrize("tokens", (1, 4, 36))
def test_texts_that_are_all_near_are_exact_to_the_bit(text: str, tokens: int) -> None:
    exact, queries = random_pod(tokens), some_queries()
    pod = pack_pod(exact, layout(text))
    assert torch.equal(attended([pod], queries)[0], attended([exact], queries)[0])
    assert pod.nbytes == exact.nbytes == expected_bytes(pod.layout, SHAPE, tokens)
    assert torch.equal(attended([restored(pod)], queries)[0], attended([exact], queries)[0])


@pytest.mark.parametrize("text", ["k16v16+keep40:norm", *RECIPES])
@pytest.mark.parametrize("tokens", (111, 164, 1000))
def test_bytes_are_those_of_the_formula(text: str, tokens: int, llama_runner: Runner) -> None:
    plan = layout(text)
    pod = compress(llama_runner, range(tokens), random_pod(tokens), plan)
    formula = expected_bytes(plan, SHAPE, tokens)
    if plan.recipe.selection.policy == "random":
        # Heads keep different numbers of slots, so the scales of their last groups differ, and so does the number of
        # slots for which a block has keys.
        assert pod.nbytes == pytest.approx(formula, rel=0.15 if plan.recipe.sharing.mode else 0.06)
    else:
        assert pod.nbytes == formula


def test_sharing_saves_what_the_papers_formula_says() -> None:
    """S(N) = 1/2 (1 - n_p / N) (1 - B / L), with B blocks per head on average."""
    tokens = 1000
    blocks = sum(root == layer for layer, row in enumerate(SHARED) for root in row) / GROUPS
    saving = 0.5 * (1 - 36 / tokens) * (1 - blocks / LAYERS)
    assert pack_pod(random_pod(tokens), layout("B35")).nbytes == round((1 - saving) * tokens * SHAPE.token_bytes)


def test_looks_are_shares_at_the_tokens_own_positions(llama_runner: Runner) -> None:
    exact, queries = random_pod(), some_queries()
    whole = torch.zeros(TOKENS)
    for text in ("A35+keep30:norm", "B35", "k4v4"):
        pod = compress(llama_runner, range(TOKENS), exact, layout(text))
        heads = [(4, 1), (2, 3)]
        context = Context([pod, exact], SuffixCache(SHAPE, 8, CPU), reference, heads)
        new = torch.zeros(GROUPS, 3, DIM)
        for layer in range(LAYERS - 1):
            context.attend(layer, queries[layer], new, new, 0.25)
        looks = context.probs[2, 3]
        assert [each.shape for each in looks] == [(3, TOKENS), (3, TOKENS)]
        own = sum(each.sum(1) for each in looks)
        assert ((own > 0) & (own < 1)).all()
        missing = torch.ones(TOKENS, dtype=torch.bool)
        for segment in pod.segments(2):
            missing[segment.places(1)] = False
        assert (looks[0][:, missing] == 0).all() and (looks[0][:, ~missing] > 0).all()
        whole += looks[0].sum(0)
    assert (whole > 0).all()


@pytest.mark.parametrize("text", RECIPES)
def test_a_selection_is_the_same_memory_with_fewer_tokens(text: str, llama_runner: Runner) -> None:
    pod = compress(llama_runner, range(TOKENS), random_pod(), layout(text))
    slots = torch.tensor([0, 1, *range(20, 60), 140])
    chosen = pod.select(slots)
    if pod.layout.maps is not None:
        whole = pod.open()
        assert isinstance(whole, Pod) and isinstance(chosen, Pod)
        assert torch.equal(chosen.keys, whole.keys[:, :, slots])
        assert torch.equal(chosen.values, whole.values[:, :, slots])
        return
    assert chosen.num_tokens == 141
    for layer in range(LAYERS):
        for whole, part in zip(pod.segments(layer), chosen.segments(layer), strict=True):
            for group in range(GROUPS):
                keep = torch.isin(whole.places(group), slots)
                assert torch.equal(part.places(group), whole.places(group)[keep])
                assert torch.equal(part.keys[group], whole.keys[group][keep])
                assert torch.equal(part.values[group], whole.values[group][keep])
    again = chosen.select(torch.arange(20, 30))
    assert again.num_tokens == 30 and all(len(again.segments(layer)) <= 1 for layer in range(LAYERS))


def restored(pod: QuantizedPod) -> QuantizedPod:
    """The pod from blocks that went through a file, in another order."""
    loader = QuantizedLoader(pod.layout, SHAPE, pod.num_tokens, CPU)
    scratch = bytearray()
    for block in reversed([*to_blocks(pod)]):
        assert (block.start, block.stop) == (0, pod.num_tokens)
        scratch[:] = block.payload
        loader.add(json.loads(json.dumps(dict(block.meta))), memoryview(scratch))
        scratch = bytearray()
    return loader.finish()


@pytest.mark.parametrize("text", RECIPES)
def test_blocks_bring_back_the_same_bytes(text: str, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.kvcache.blocks.by_layer.BLOCK_BYTES", 20_000)
    pod = compress(llama_runner, range(TOKENS), random_pod(), layout(text))
    blocks = [*to_blocks(pod)]
    assert 1 < len(blocks) <= LAYERS
    again = [*to_blocks(restored(pod))]
    assert [(block.meta, bytes(block.payload)) for block in blocks] == [
        (block.meta, bytes(block.payload)) for block in again
    ]


@pytest.mark.parametrize("text", RECIPES)
def test_a_large_layer_is_stored_by_heads(text: str, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = compress(llama_runner, range(TOKENS), random_pod(), layout(text))
    whole = [*to_blocks(pod)]
    monkeypatch.setattr("engine.kvcache.blocks.by_layer.BLOCK_BYTES", 1)
    monkeypatch.setattr("engine.kvcache.blocks.by_layer.MOST_BYTES", 1)
    blocks = [*to_blocks(pod)]
    assert [(*block.meta["layers"], *block.meta["heads"]) for block in blocks] == [
        (layer, layer + 1, head, head + 1) for layer in range(LAYERS) for head in range(GROUPS)
    ]
    again = restored(pod)
    check(again)
    monkeypatch.undo()
    back = [*to_blocks(again)]
    assert [(block.meta, bytes(block.payload)) for block in back] == [
        (block.meta, bytes(block.payload)) for block in whole
    ]
    loader = QuantizedLoader(pod.layout, SHAPE, TOKENS, CPU)
    for number in (*range(1, LAYERS * GROUPS), 1):
        loader.add(blocks[number].meta, memoryview(bytearray(blocks[number].payload)))
    with pytest.raises(PodMismatch, match="1 layers are missing"):
        loader.finish()


@pytest.mark.parametrize("text", RECIPES)
def test_what_is_loaded_looks_at_the_block_that_was_read(text: str, llama_runner: Runner) -> None:
    """Without a copy, at multiples of 64 bytes."""
    pod = compress(llama_runner, range(TOKENS), random_pod(), layout(text))
    loader = QuantizedLoader(pod.layout, SHAPE, TOKENS, CPU)
    (block,) = to_blocks(pod)
    with loader.room(len(block.payload)) as room:
        room[:] = block.payload
        loader.add(block.meta, room)
    start = torch.frombuffer(room, dtype=torch.uint8).data_ptr()
    distant = [each for layer in loader.finish().distant for each in tensor_tree.tensors(layer) if each.numel()]
    assert distant and start % 64 == 0
    assert all(start <= each.data_ptr() < start + len(room) and each.data_ptr() % 64 == 0 for each in distant)


@pytest.mark.parametrize("text", ["keep40:random+k4v4", "keep40:norm"])
def test_a_bitmap_that_does_not_count_its_rows_is_refused(text: str, llama_runner: Runner) -> None:
    """Before anything of it is used, since it says where rows stand."""
    pod = compress(llama_runner, range(TOKENS), random_pod(), layout(text))
    (block,) = to_blocks(pod)
    proximal = 2 * GROUPS * 36 * DIM * 4
    payload = bytearray(block.payload)
    assert bytes(payload[proximal : proximal + 15]) == pod.distant[0].kept.numpy().tobytes()[:15]
    payload[proximal] ^= 1
    loader = QuantizedLoader(pod.layout, SHAPE, TOKENS, CPU)
    with pytest.raises(PodMismatch, match=r"rows for .* slots"):
        loader.add(block.meta, memoryview(payload))
    with pytest.raises(PodMismatch, match="5 layers are missing"):
        loader.finish()


def test_rows_that_are_missing_without_a_bitmap_are_refused() -> None:
    pod = pack_pod(random_pod(), layout("k8v8"))
    (block,) = to_blocks(pack_pod(random_pod(TOKENS - 1), layout("k8v8")))
    loader = QuantizedLoader(pod.layout, SHAPE, TOKENS, CPU)
    with pytest.raises(PodMismatch, match="rows for"):
        loader.add(block.meta, memoryview(bytearray(block.payload)))


def test_foreign_and_torn_blocks_are_refused(llama_runner: Runner) -> None:
    pod = pack_pod(random_pod(), layout("k4v4"))
    (block,) = to_blocks(pod)

    def load(plan: Layout = pod.layout, meta: object = None, payload: bytes | None = None) -> QuantizedPod:
        loader = QuantizedLoader(plan, SHAPE, TOKENS, CPU)
        changed = {**block.meta, **(meta if isinstance(meta, dict) else {})}
        loader.add(changed, memoryview(bytearray(block.payload if payload is None else payload)))
        return loader.finish()

    assert load().nbytes == pod.nbytes
    for wrong in (
        {"recipe": "k3v4"},
        {"kind": "exact"},
        {"dtype": "bfloat16"},
        {"alignment": 8},
        {"layers": [0, 6]},
        {"layers": [1, 6]},
    ):
        with pytest.raises(PodMismatch, match="does not fit"):
            load(meta=wrong)
    with pytest.raises(PodMismatch, match="does not fit"):
        load(layout("k4v3"))
    for heads in ([0, 3], [1, 1], [-1, 1]):
        with pytest.raises(PodMismatch, match="does not fit 2 heads"):
            load(meta={"heads": heads})
    with pytest.raises(PodMismatch, match="cannot have kept"):
        load(meta={"heads": [1, 2]})
    with pytest.raises(PodMismatch, match="cannot have kept"):
        load(meta={"slots": [[999, 999]] * LAYERS})
    for payload in (bytes(block.payload)[:-8], bytes(block.payload) + bytes(8)):
        with pytest.raises(PodMismatch, match="bytes"):
            load(payload=payload)
    with pytest.raises(PodMismatch, match="layers are missing"):
        QuantizedLoader(pod.layout, SHAPE, TOKENS, CPU).finish()


@pytest.mark.parametrize("text", ("k8v8", "k8v8h"))
def test_a_question_over_a_compressed_pod_is_answered_like_over_an_exact_one(text: str, tiny_runner: Runner) -> None:
    """Whole models of every family: close logits, the same answer packed, open and restored, bytes left alone."""
    runner = tiny_runner
    shape = runner.model.shape
    own = tuple((layer,) * shape.kv_heads for layer in range(shape.layers))
    ids, question = some_ids(runner, 300, 7), some_ids(runner, 9, 8)
    exact = read(runner, ids)
    pod = compress(runner, ids, exact, Layout(parse(f"{text}+near4,32"), own))
    before = [bytes(block.payload) for block in to_blocks(pod)]
    (dense,), (got,) = ask(runner, [exact], [question]), ask(runner, [pod], [question])
    spread = dense.std()
    assert (got - dense).abs().mean() < 0.15 * spread
    answers = {tuple(greedy(runner, [form], question, 12)) for form in (pod, pod.open())}
    assert len(answers) == 1
    assert [bytes(block.payload) for block in to_blocks(pod)] == before
