"""Reading with sharing in force: PoD's masks and cache as in Figure 2 of the paper, and chunks that change nothing."""

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.core.lse import reference
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.prefill.sharing_context import SharingContext
from engine.runtime.runner import Runner
from tests.engine.reading import feed, read, some_ids
from tests.engine.shapes import uniform

LAYERS, GROUPS, HEADS, DIM = 5, 2, 4, 8
SHAPE = uniform(LAYERS, GROUPS, DIM, torch.float64)
CPU = torch.device("cpu")
OWN = tuple((layer,) * GROUPS for layer in range(LAYERS))
SHARED = ((0, 0), (0, 1), (0, 1), (3, 1), (3, 4))


def layout(mode: str, sinks: int, recent: int, roots: tuple[tuple[int, ...], ...] = SHARED) -> Layout:
    return Layout(parse(f"{mode}35s+near{sinks},{recent}"), roots)


def sequence(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (L, H, T, D), keys and values (L, G, T, D)."""
    generator = torch.Generator().manual_seed(tokens)
    made = torch.randn(LAYERS, HEADS + 2 * GROUPS, tokens, DIM, generator=generator, dtype=torch.float64)
    return made[:, :HEADS], made[:, HEADS : HEADS + GROUPS], made[:, HEADS + GROUPS :]


def by_hand(plan: Layout, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One softmax per layer, head and token, each far logit from the root, cell by cell."""
    out = torch.zeros_like(queries)
    for layer in range(LAYERS):
        for head in range(HEADS):
            group = head // (HEADS // GROUPS)
            root = plan.roots[layer][group]
            asking = root if plan.recipe.sharing.mode == "A" else layer
            for i in range(queries.shape[2]):
                logits = []
                for j in range(i + 1):
                    proximal = j < plan.recipe.sinks or i - j < plan.recipe.recent
                    query = queries[layer if proximal else asking, head, i]
                    logits.append(query @ keys[layer if proximal else root, group, j])
                out[layer, head, i] = (torch.stack(logits) * 0.3).softmax(0) @ values[layer, group, : i + 1]
    return out


def in_chunks(plan: Layout, queries: Tensor, keys: Tensor, values: Tensor, chunk: int) -> Tensor:
    tokens = queries.shape[2]
    suffix = SuffixCache(SHAPE, tokens, CPU)
    context = SharingContext(plan, suffix, reference)
    out = torch.empty_like(queries)
    for start in range(0, tokens, chunk):
        now = slice(start, start + chunk)
        for layer in range(LAYERS):
            out[layer, :, now] = context.attend(
                layer, queries[layer, :, now], keys[layer, :, now], values[layer, :, now], 0.3
            )
        suffix.advance(len(range(tokens)[now]))
    return out


@pytest.mark.parametrize("mode", "AB")
@pytest.mark.parametrize(("tokens", "sinks", "recent"), ((6, 1, 2), (40, 4, 7), (40, 0, 1), (40, 16, 30)))
@pytest.mark.parametrize("chunk", (1, 5, 16, 40))
def test_against_cell_by_cell(mode: str, tokens: int, sinks: int, recent: int, chunk: int) -> None:
    plan = layout(mode, sinks, recent)
    made = sequence(tokens)
    torch.testing.assert_close(in_chunks(plan, *made, chunk), by_hand(plan, *made))


def test_the_masks_of_figure_2() -> None:
    """n_s = 1, n_r = 2, six tokens: which are near (n), far (f) or ahead (.), from what really reaches the output."""
    plan = layout("A", 1, 2, ((0,) * GROUPS,) * LAYERS)
    drawn = ["n.....", "nn....", "nnn...", "nfnn..", "nffnn.", "nfffnn"]
    queries, keys, values = sequence(6)
    before = in_chunks(plan, queries, keys, values, 3)
    for token in range(6):
        own, root = keys.clone(), keys.clone()
        own[2, :, token] += 1.0
        root[0, :, token] += 1.0
        by_own = (in_chunks(plan, queries, own, values, 3)[2] - before[2]).abs().sum((0, 2)) > 1e-9
        by_root = (in_chunks(plan, queries, root, values, 3)[2] - before[2]).abs().sum((0, 2)) > 1e-9
        for i in range(6):
            # The first token attends itself alone, whatever its key.
            expected = drawn[i][token] if i else "."
            assert (by_own[i], by_root[i]) == (expected == "n", expected == "f")


def test_the_cache_table_of_figure_2() -> None:
    """Six tokens, one block of three layers: upper layers keep keys x1, x5, x6; the root keeps all; values all stay."""
    shape = uniform(3, 1, DIM, torch.float32)
    suffix = SuffixCache(shape, 6, CPU)
    for layer in range(3):
        rows = torch.arange(1.0, 7.0)[None, :, None].expand(1, 6, DIM)
        suffix.append(layer, rows, rows)
    suffix.advance(6)
    pod = pack_pod(suffix.freeze(), Layout(parse("A35+near1,2"), ((0,), (0,), (0,))))
    for layer in range(3):
        assert pod.proximal.keys[layer, 0, :, 0].tolist() == [1, 5, 6]
        distant = pod.distant[layer]
        assert distant.values[0].codes[:, 0].tolist() == [2, 3, 4]
        assert (distant.keys[0] is None) == (layer > 0)
    assert pod.distant[0].keys[0].codes[:, 0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("mode", "AB")
def test_nothing_shared_or_nothing_far_is_dense(mode: str, llama_runner: Runner) -> None:
    runner = llama_runner
    ids = some_ids(runner, 150, 1)
    own = tuple((layer,) * 2 for layer in range(4))
    shared = ((0, 0), (0, 1), (0, 1), (3, 1))
    dense = read(runner, ids)
    for plan in (layout(mode, 4, 32, own), layout(mode, 16, 134, shared), layout(mode, 0, 150, shared)):
        builder = PodBuilder(runner, len(ids), plan)
        feed(builder, ids, 64)
        pod = builder.finish()
        torch.testing.assert_close(pod.keys, dense.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pod.values, dense.values, rtol=1e-4, atol=1e-4)
    builder = PodBuilder(runner, len(ids), layout(mode, 4, 32, shared))
    feed(builder, ids, 64)
    assert (builder.finish().values[3] - dense.values[3]).abs().max() > 1e-2


@pytest.mark.parametrize("mode", "AB")
def test_a_question_goes_on_where_reading_ended(mode: str, llama_runner: Runner) -> None:
    """The first token behind the text sees the same far and proximal tokens as if it were read with the text."""
    runner = llama_runner
    ids = some_ids(runner, 151, 2)
    shared = ((0, 0), (0, 1), (0, 1), (3, 1))
    plan = layout(mode, 4, 33, shared)
    whole = PodBuilder(runner, 151, plan)
    logits = [runner.run(whole.context, ids[start : start + 64]) for start in range(0, 151, 64)][-1]
    builder = PodBuilder(runner, 150, plan)
    feed(builder, ids[:150], 64)
    # The question's own token is one of the recent ones, so the pod keeps one less.
    pod = pack_pod(builder.finish(), layout(mode, 4, 32, shared))
    context = Context([pod], SuffixCache(runner.model.shape, 1, CPU), reference)
    torch.testing.assert_close(runner.run(context, ids[150:]), logits, rtol=1e-3, atol=1e-3)
