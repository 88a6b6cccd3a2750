"""Reading over a packed past: the same pod as step by step, the same bytes after an interruption, and blocks in any
order."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.core.errors import PodMismatch
from engine.core.lse import reference
from engine.core.quant import dequantize
from engine.kvcache.blocks.by_chunk import ChunkLoader
from engine.kvcache.exact import Pod, PodBlock
from engine.kvcache.layout import Layout, expected_bytes
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.offload.tensor_tree import tensors
from engine.runtime.context import Context
from engine.runtime.prefill import quantizing_context
from engine.runtime.prefill.builder import Builder, builder_for
from engine.runtime.runner import Runner
from tests.engine.reading import greedy, read, some_ids
from tests.engine.shapes import check

OWN = ((0, 0), (1, 1), (2, 2), (3, 3))
RECIPES = ("k4v4hs", "k8v8s", "k3v2hs", "k16v4hs")


def layout(text: str, proximal: str = "near4,32") -> Layout:
    return Layout(parse(f"{text}+{proximal}"), OWN)


def feed(builder: Builder, ids: Sequence[int], size: int) -> list[PodBlock]:
    blocks = []
    while builder.num_read < len(ids):
        blocks.append(builder.feed(ids[builder.num_read : builder.cut(size)]))
    return blocks


def stored(block: PodBlock) -> tuple[dict[str, object], memoryview]:
    """A block as it comes back from a file."""
    return json.loads(json.dumps(dict(block.meta))), memoryview(bytearray(block.payload))


def built(runner: Runner, plan: Layout, ids: Sequence[int], size: int = 128) -> tuple[QuantizedPod, list[PodBlock]]:
    builder = builder_for(runner, len(ids), plan)
    blocks = feed(builder, ids, size)
    pod = builder.finish()
    assert isinstance(pod, QuantizedPod)
    check(pod)
    return pod, blocks


def assert_same(one: QuantizedPod, other: QuantizedPod) -> None:
    assert one.num_tokens == other.num_tokens
    for a, b in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(a, b)


class Slow(Context):
    """The specification: everything before the chunk as `pack_pod` would keep it, unpacked anew in every layer."""

    def __init__(self, runner: Runner, num_tokens: int, plan: Layout) -> None:
        super().__init__((), SuffixCache(runner.model.shape, num_tokens, runner.model.device), reference)
        self._plan = plan

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        self.suffix.append(layer, keys, values)
        recipe, start, stop = self._plan.recipe, self.suffix.length, self.suffix.length + query.shape[1]
        seen = [tensor[layer, :, :stop].clone() for tensor in (self.suffix.keys, self.suffix.values)]
        distant = min(start, self.suffix.capacity - recipe.recent)
        if distant > recipe.sinks:
            # As if the section ended so that just these tokens are far.
            padded = (torch.nn.functional.pad(rows[None, :, :distant], (0, 0, 0, recipe.recent)) for rows in seen)
            exact = Pod(*padded, torch.arange(distant + recipe.recent), distant + recipe.recent)
            segment = pack_pod(exact, Layout(recipe, OWN[:1])).segments(0)[1]
            for rows, kept in zip(seen, (segment.keys, segment.values), strict=True):
                rows[:, recipe.sinks : distant] = kept if segment.rotation is None else kept @ segment.rotation
        return reference(query, *seen, scale, True)[0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_first_chunk_has_the_bits_of_packing_afterwards(recipe: str, llama_runner: Runner) -> None:
    """It sees nothing packed; all that is packed later must begin with it."""
    ids, plan = some_ids(llama_runner, 400, 1), layout(recipe)
    pod, blocks = built(llama_runner, plan, ids)
    afterwards = pack_pod(read(llama_runner, ids, blocks[0].stop), plan)
    assert blocks[0].stop == 4 + 128 and pod.nbytes == afterwards.nbytes
    for ours, theirs in zip(pod.distant, afterwards.distant, strict=True):
        for a, b in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
            assert torch.equal(a.codes[:128], b.codes[:128])
            if a.bits < 16:
                rows = 2 if a.per == "channel" else 128
                assert torch.equal(a.scales[:rows], b.scales[:rows]) and torch.equal(a.zeros[:rows], b.zeros[:rows])
    assert torch.equal(pod.proximal.keys[:, :, :4], afterwards.proximal.keys[:, :, :4])
    assert torch.equal(pod.proximal.positions, afterwards.proximal.positions)
    assert expected_bytes(plan, llama_runner.model.shape, len(ids)) == pod.nbytes


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("tokens", "proximal", "size"), ((400, "near4,32", 128), (333, "near0,1", 64), (300, "near70,90", 50))
)
def test_step_by_step(
    recipe: str, tokens: int, proximal: str, size: int, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing_context, "RUN_TOKENS", 128)
    ids, plan = some_ids(llama_runner, tokens, 2), layout(recipe, proximal)
    pod, blocks = built(llama_runner, plan, ids, size)
    slow = Slow(llama_runner, tokens, plan)
    for block in blocks:
        llama_runner.run(slow, ids[block.start : block.stop])
    expected = pack_pod(slow.suffix.freeze(), plan)
    torch.testing.assert_close(pod.proximal.values, expected.proximal.values, rtol=2e-2, atol=2e-2)
    for ours, theirs in zip(pod.distant, expected.distant, strict=True):
        for a, b in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
            # Where a number lies between two codes, either may be taken.
            away = (dequantize(a, torch.float32) - dequantize(b, torch.float32)).abs()
            assert (away > 1e-2).float().mean() < 0.02
    # Another past than an exact one was read.
    exact = read(llama_runner, ids).values
    if recipe == "k3v2hs":
        assert (exact[3] - slow.suffix.values[3]).abs().max() > 0.1


@pytest.mark.parametrize("tokens", (1, 4, 5, 36, 37, 100, 101, 132, 196, 250))
@pytest.mark.parametrize("proximal", ("near4,32", "near0,1"))
def test_short_sections(tokens: int, proximal: str, llama_runner: Runner) -> None:
    ids, plan = some_ids(llama_runner, tokens, 3), layout("k4v4hs", proximal)
    pod, blocks = built(llama_runner, plan, ids, 64)
    if len(blocks) == 1:
        assert_same(pod, pack_pod(read(llama_runner, ids, 512), plan))
    assert pod.num_tokens == tokens == blocks[-1].stop
    assert greedy(llama_runner, [pod], ids[:3], 2)


def test_an_interrupted_builder_gives_the_same_bytes(llama_runner: Runner) -> None:
    ids, plan = some_ids(llama_runner, 500, 4), layout("k4v4hs")
    pod, blocks = built(llama_runner, plan, ids)
    assert len(blocks) == 4
    for count in range(len(blocks) + 1):
        builder = builder_for(llama_runner, len(ids), plan)
        for block in blocks[:count]:
            builder.restore(*stored(block))
        rest = feed(builder, ids, 128)
        assert [bytes(each.payload) for each in rest] == [bytes(each.payload) for each in blocks[count:]]
        again = builder.finish()
        assert isinstance(again, QuantizedPod)
        assert_same(again, pod)


@pytest.mark.parametrize("recipe", ["exact", "k4v4hs"])
def test_chunks_that_are_only_begun_have_the_same_bytes(recipe: str, llama_runner: Runner) -> None:
    """However late they are waited for, and whatever is read meanwhile."""
    ids = some_ids(llama_runner, 500, 4)
    plan = Layout(parse(recipe), OWN) if recipe == "exact" else layout(recipe)
    fed = feed(builder_for(llama_runner, len(ids), plan), ids, 128)
    builder, begun = builder_for(llama_runner, len(ids), plan), []
    while builder.num_read < len(ids):
        begun.append(builder.begin(ids[builder.num_read : builder.cut(128)]))
    for arrived, block in reversed(list(zip(begun, fed, strict=True))):
        again = arrived()
        assert (again.start, again.stop, again.meta) == (block.start, block.stop, block.meta)
        assert bytes(again.payload) == bytes(block.payload)


def test_a_chunk_that_failed_halfway_is_read_again(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, plan = some_ids(llama_runner, 500, 4), layout("k4v4hs")
    pod, _ = built(llama_runner, plan, ids)
    builder = builder_for(llama_runner, len(ids), plan)
    attend = quantizing_context.QuantizingContext.attend

    def fails(self: quantizing_context.QuantizingContext, layer: int, *rest: object) -> Tensor:
        if layer == 2:
            raise RuntimeError("no room")
        return attend(self, layer, *rest)

    builder.feed(ids[: builder.cut(128)])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(quantizing_context.QuantizingContext, "attend", fails)
        builder.feed(ids[builder.num_read : builder.cut(256)])
    feed(builder, ids, 128)
    assert_same(builder.finish(), pod)


@pytest.mark.parametrize("recipe", RECIPES)
def test_blocks_in_any_order_and_from_several_threads(recipe: str, llama_runner: Runner) -> None:
    ids, plan = some_ids(llama_runner, 700, 5), layout(recipe)
    pod, blocks = built(llama_runner, plan, ids)
    shape, device = llama_runner.model.shape, llama_runner.model.device
    for seed in range(3):
        loader = ChunkLoader(plan, shape, len(ids), device)
        with ThreadPoolExecutor(3) as threads:
            shuffled = [stored(block) for block in Random(seed).sample(blocks, len(blocks))]
            list(threads.map(loader.add, *zip(*shuffled, strict=True)))
        assert_same(loader.finish(), pod)
    assert greedy(llama_runner, [pod], ids[:9], 5) == greedy(llama_runner, [pod.open()], ids[:9], 5)


@pytest.mark.parametrize("proximal", ("near4,32", "near0,1", "near70,90"))
def test_the_beginning_of_a_section_can_be_asked(proximal: str, llama_runner: Runner) -> None:
    ids, plan = some_ids(llama_runner, 700, 5), layout("k4v4hs", proximal)
    whole, blocks = built(llama_runner, plan, ids)
    shape, device = llama_runner.model.shape, llama_runner.model.device
    for count in range(1, len(blocks)):
        held = blocks[count - 1].stop
        loader = ChunkLoader(plan, shape, len(ids), device, held=held)
        for block in reversed(blocks[:count]):
            loader.add(*stored(block))
        part = loader.finish()
        check(part)
        assert part.num_tokens == held
        wanted = whole.open().select(torch.arange(held))
        assert greedy(llama_runner, [part], ids[:9], 5) == greedy(llama_runner, [wanted], ids[:9], 5)


def test_what_does_not_belong_is_refused(llama_runner: Runner) -> None:
    ids, plan = some_ids(llama_runner, 500, 6), layout("k4v4hs")
    _, blocks = built(llama_runner, plan, ids)
    shape, device = llama_runner.model.shape, llama_runner.model.device
    for recipe in ("k8v8s", "k4v4s"):
        with pytest.raises(PodMismatch, match="does not fit"):
            ChunkLoader(layout(recipe), shape, len(ids), device).add(*stored(blocks[0]))
    for tokens in (499, 501):
        with pytest.raises(PodMismatch, match="does not fit"):
            ChunkLoader(plan, shape, tokens, device).add(*stored(blocks[0]))
    meta, payload = stored(blocks[1])
    with pytest.raises(PodMismatch, match="cannot hold"):
        ChunkLoader(plan, shape, len(ids), device).add(meta, payload[:-1])
    for changes in ({"start": 5}, {"stop": 200}, {"stop": 600}, {"start": -60}):
        with pytest.raises(PodMismatch, match="no chunk"):
            ChunkLoader(plan, shape, len(ids), device).add(meta | changes, payload)
    for some in (blocks[1:], blocks[:-1], [*blocks, blocks[1]]):
        loader = ChunkLoader(plan, shape, len(ids), device)
        for block in some:
            loader.add(*stored(block))
        with pytest.raises(PodMismatch, match="expected"):
            loader.finish()
    builder = builder_for(llama_runner, len(ids), plan)
    with pytest.raises(PodMismatch, match="cannot follow"):
        builder.restore(meta, payload)
    with pytest.raises(PodMismatch, match="no chunk can end"):
        builder.feed(ids[:100])
    with pytest.raises(PodMismatch, match="0 of 500"):
        builder.finish()


def test_the_scratch_is_of_one_run_and_cuts_are_near_what_was_asked(llama_runner: Runner) -> None:
    builder = builder_for(llama_runner, 1000, layout("k4v4hs"))
    stops = [0]
    while stops[-1] < 1000:
        block = builder.feed([5] * (builder.cut(200) - builder.num_read))
        stops.append(block.stop)
    assert stops == [0, 4 + 192, 4 + 2 * 192, 4 + 3 * 192, 4 + 4 * 192, 4 + 5 * 192, 1000]
    assert all(stop - start <= 200 for start, stop in pairwise(stops))
    assert builder.context._scratch.nbytes == 2 * 2 * 964 * 16 * 4
