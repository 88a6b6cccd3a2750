"""Attention over one segment, over several, and chunk by chunk, against explicit softmax in float64."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.attention import cudnn
from engine.attention.sdpa import SegmentAttention, chunked, fused, select_backend
from engine.core.lse import merge, reference
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from tests.engine.shapes import uniform

CPU = torch.device("cpu")
LENGTHS = (1, 63, 111)
LONG = 1000
HEADS = ((64, 3, 3), (64, 2, 5), (96, 1, 8), (96, 3, 2), (128, 2, 1), (128, 1, 7), (96, 1, 6), (64, 2, 4))
"""(head size, key/value heads, query heads of each)."""
DTYPES = (torch.float32, torch.bfloat16)
LSE_ERROR = {torch.float32: 1e-5, torch.bfloat16: 3e-4}
"""Largest error of a log-sum-exp; seen: 2e-6 and 6e-5. One of 3e-4 moves a segment's share by a tenth of what
rounding to bfloat16 does."""


def inputs(
    device: torch.device,
    dtype: torch.dtype,
    heads: tuple[int, int, int],
    queries: int,
    tokens: int,
    spread: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random query, keys and values; `spread` stretches the logits."""
    dim, kv_heads, groups = heads
    generator = torch.Generator().manual_seed(queries * 1009 + tokens)
    shapes = ((kv_heads * groups, queries), (kv_heads, tokens), (kv_heads, tokens))
    query, keys, values = (torch.randn(*shape, dim, generator=generator) for shape in shapes)
    return (query * spread).to(device, dtype), keys.to(device, dtype), values.to(device, dtype)


def straightforward(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> Tensor:
    """What one would write down first, every step rounded to the inputs' dtype."""
    groups = query.shape[0] // keys.shape[0]
    logits = query @ keys.repeat_interleave(groups, 0).transpose(1, 2) * scale
    if causal:
        ahead = torch.ones_like(logits[0], dtype=torch.bool).triu(1 + keys.shape[1] - query.shape[1])
        logits = logits.masked_fill(ahead, -math.inf)
    return logits.softmax(-1) @ values.repeat_interleave(groups, 0)


def assert_output_close(out: Tensor, query: Tensor, keys: Tensor, values: Tensor, causal: bool = False) -> None:
    """flash-attention's rule: at most twice the error of the straightforward way in the same dtype.

    The exact result is float64's. The floor of 1e-6 is for float32, where both errors are a few roundings and their
    ratio is chance (up to 2.3 seen, at an error of 4e-7); in bfloat16 errors are some 1e-3, so there it gives nothing.
    """
    scale = query.shape[2] ** -0.5
    exact = reference(query.double(), keys.double(), values.double(), scale, causal)[0]
    allowed = 2 * (straightforward(query, keys, values, scale, causal).double() - exact).abs().max() + 1e-6
    assert out.dtype == query.dtype and out.shape == query.shape
    assert (out.double() - exact).abs().max() <= allowed


def assert_close(
    attention: SegmentAttention, query: Tensor, keys: Tensor, values: Tensor, causal: bool = False
) -> None:
    """Output and log-sum-exp are those of float64, within the rules above."""
    scale = query.shape[2] ** -0.5
    out, lse = attention(query, keys, values, scale, causal)
    assert_output_close(out, query, keys, values, causal)
    exact_lse = reference(query.double(), keys.double(), values.double(), scale, causal)[1]
    assert lse.dtype == torch.float32 and lse.shape == query.shape[:2]
    assert (lse.double() - exact_lse).abs().max() <= LSE_ERROR[query.dtype]


def test_the_reference_is_softmax() -> None:
    """The specification itself, against sums written out one by one."""
    query, keys, values = inputs(CPU, torch.float64, (4, 2, 3), 5, 5)
    for causal, queries in ((False, 5), (True, 5), (False, 2), (True, 2)):
        out, lse = reference(query[:, :queries], keys, values, 0.7, causal)
        for head, row in itertools.product(range(6), range(queries)):
            seen = range(row + 1 + 5 - queries if causal else 5)
            weights = [math.exp(0.7 * float(query[head, row] @ keys[head // 3, token])) for token in seen]
            wanted = sum(weight * values[head // 3, token] for weight, token in zip(weights, seen, strict=True))
            torch.testing.assert_close(out[head, row], wanted / sum(weights), rtol=1e-12, atol=1e-12)
            assert float(lse[head, row]) == pytest.approx(math.log(sum(weights)), rel=1e-12)


@pytest.mark.parametrize("attention", [fused, reference])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", HEADS)
def test_a_segment(
    attention: SegmentAttention, dtype: torch.dtype, heads: tuple[int, int, int], one_thread: None
) -> None:
    for queries, tokens in itertools.product(LENGTHS, LENGTHS):
        assert_close(attention, *inputs(CPU, dtype, heads, queries, tokens))
    for queries, tokens in itertools.combinations_with_replacement(LENGTHS, 2):
        assert_close(attention, *inputs(CPU, dtype, heads, queries, tokens), causal=True)


@pytest.mark.parametrize("attention", [fused, reference])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_segment(attention: SegmentAttention, dtype: torch.dtype) -> None:
    for queries, heads in itertools.product((1, 63, LONG), ((128, 1, 2), (96, 2, 1))):
        assert_close(attention, *inputs(CPU, dtype, heads, queries, LONG))
    assert_close(attention, *inputs(CPU, dtype, (64, 1, 3), LONG, 63))
    assert_close(attention, *inputs(CPU, dtype, (64, 1, 3), LONG, LONG), causal=True)


@pytest.mark.gpu
@pytest.mark.parametrize("heads", HEADS)
def test_a_segment_on_a_gpu(heads: tuple[int, int, int]) -> None:
    device = torch.device("cuda")
    for dtype in (torch.bfloat16, torch.float32):
        attention, _ = select_backend(device, dtype)
        for queries, tokens in itertools.product((*LENGTHS, LONG), (*LENGTHS, LONG)):
            assert_close(attention, *inputs(device, dtype, heads, queries, tokens))
        for queries, tokens in itertools.combinations_with_replacement((*LENGTHS, LONG, 1024, 4097), 2):
            assert_close(attention, *inputs(device, dtype, heads, queries, tokens), causal=True)


def test_a_long_chunk_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's share of a chunk, played by the reference: every token before is met once, in few shapes."""
    shapes = set()

    def played(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
        assert len(query) == len(keys) and (query.shape == keys.shape or not causal)
        assert query.is_contiguous() and keys.is_contiguous() and values.is_contiguous()
        shapes.add((query.shape[1], keys.shape[1]))
        return reference(query, keys, values, scale, causal)

    monkeypatch.setattr(cudnn, "attend", played)
    monkeypatch.setattr(cudnn, "LEAST_TOKENS", 16)
    query, keys, values = inputs(CPU, torch.float32, (64, 2, 3), 32, 437)
    ours, theirs = (attend(query, keys, values, 0.125, False) for attend in (chunked, reference))
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert shapes == {(96, run) for run in (16, 32, 128, 256)}
    room = torch.full((2, 2, 500, 64), math.nan)
    # A chunk of 30 is filled up, one of 17 is far from a power of two.
    for chunk, past in itertools.product((16, 32, 30, 17, 1), (0, 3, 16, 31, 160, 437)):
        query, keys, values = inputs(CPU, torch.float32, (64, 2, 3), chunk, past + chunk)
        room[0, :, : past + chunk], room[1, :, : past + chunk] = keys, values
        held = room[0, :, : past + chunk], room[1, :, : past + chunk]
        out, lse = chunked(query, *held, 0.125, True)
        wanted, wanted_lse = reference(query, keys, values, 0.125, True)
        torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(lse, wanted_lse, rtol=1e-5, atol=1e-5)
    squares = {(16, 16), (32, 32)}
    assert shapes == squares | {(3 * chunk, run) for chunk in (16, 32) for run in (16, 32, 128, 256)}
    assert list(cudnn.runs(437)) == [(0, 256), (256, 384), (384, 416), (416, 432), (432, 437)]


def test_cudnn_is_taken_only_where_it_says_what_the_reference_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*operands: object) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no plan")

    def wrong(*operands: Any) -> tuple[Tensor, Tensor]:
        out, lse = reference(*operands)
        return out, lse + 0.01

    for played, fits in ((reference, True), (broken, False), (wrong, False)):
        monkeypatch.setattr(cudnn, "attend", played)
        assert cudnn.works(CPU, torch.bfloat16, reference) is fits


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_segment_with_stretched_logits(dtype: torch.dtype) -> None:
    """Logits of some hundreds, where a softmax that forgets to take off the maximum overflows."""
    query, keys, values = inputs(CPU, dtype, (64, 2, 3), 63, 111, spread=60.0)
    out, lse = fused(query, keys, values, 0.125, False)
    wanted, wanted_lse = reference(query.double(), keys.double(), values.double(), 0.125, False)
    assert wanted_lse.max() > 100
    torch.testing.assert_close(lse.double(), wanted_lse, rtol=1e-5, atol=1e-3)
    plain = (straightforward(query, keys, values, 0.125, False).double() - wanted).abs().max()
    assert (out.double() - wanted).abs().max() <= 2 * plain + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 63])
def test_a_segment_inside_a_larger_buffer(dtype: torch.dtype, queries: int) -> None:
    """A tail hands out a part of its buffer; NaN stands behind it in every head."""
    query, keys, values = inputs(CPU, dtype, (64, 3, 3), queries, 111)
    room = torch.full((2, 3, 500, 64), math.nan, dtype=dtype)
    room[0, :, :111], room[1, :, :111] = keys, values
    out, lse = fused(query, room[0, :, :111], room[1, :, :111], 0.125, False)
    wanted, wanted_lse = fused(query, keys, values, 0.125, False)
    assert torch.equal(out, wanted) and torch.equal(lse, wanted_lse)


@pytest.mark.parametrize("cuts", [(0, 111), (0, 1, 111), (0, 63, 64, 110, 111), tuple(range(0, 112, 3))])
def test_merged_segments_are_their_concatenation(cuts: tuple[int, ...]) -> None:
    """In float64 to the last digits, so the merge itself adds no error; then as it is used."""
    query, keys, values = inputs(CPU, torch.float64, (64, 2, 3), 63, 111)
    pairs = [(keys[:, a:b], values[:, a:b]) for a, b in itertools.pairwise(cuts)]
    out, lse = merge([reference(query, *pair, 0.125, False) for pair in pairs])
    wanted, wanted_lse = reference(query, keys, values, 0.125, False)
    torch.testing.assert_close(out, wanted, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(lse, wanted_lse, rtol=1e-13, atol=1e-13)

    def in_parts(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
        return merge([fused(query, keys[:, a:b], values[:, a:b], scale, causal) for a, b in itertools.pairwise(cuts)])

    for dtype in DTYPES:
        assert_close(in_parts, *inputs(CPU, dtype, (64, 2, 3), 63, 111))


def test_a_segment_that_nobody_looks_at_does_not_matter() -> None:
    """Segments whose shares differ by e**1000 merge without overflow, and an empty one without a trace."""
    out, lse = torch.randn(2, 3, 4), torch.randn(2, 3)
    for weaker in (lse - 1000, torch.full_like(lse, -math.inf)):
        merged, total = merge([(torch.randn(2, 3, 4), weaker), (out, lse)])
        assert torch.equal(merged, out) and torch.equal(total, lse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [1, 7, 64, 111])
def test_chunks_are_the_whole(dtype: torch.dtype, chunk: int) -> None:
    """A context that is fed chunk by chunk gives causal attention over everything; what it lacks is NaN."""
    query, keys, values = inputs(CPU, dtype, (64, 3, 3), 111, 111)
    suffix = SuffixCache(uniform(1, 3, 64, dtype), 200, CPU)
    context = Context((), suffix, fused)
    out = torch.empty_like(query)
    for start in range(0, 111, chunk):
        new = slice(start, min(start + chunk, 111))
        out[:, new] = context.attend(0, query[:, new], keys[:, new], values[:, new], 64**-0.5)
        suffix.advance(new.stop - new.start)
    assert_output_close(out, query, keys, values, causal=True)
    assert torch.equal(suffix.segment(0)[0], keys) and torch.equal(suffix.segment(0)[1], values)


def test_the_choice_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    assert select_backend(CPU, torch.float32) == (fused, "attention: PyTorch flash, CPU, float32")
    assert select_backend(CPU, torch.float16)[0] is reference
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert select_backend(gpu, torch.bfloat16) == (fused, "attention: PyTorch flash, some GPU, bfloat16")
    assert select_backend(gpu, torch.float32)[0] is reference
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(cudnn, "works", lambda *facts: True)
    wanted = "attention: PyTorch flash, cuDNN for long chunks, some GPU, bfloat16"
    assert select_backend(gpu, torch.bfloat16) == (chunked, wanted)
    monkeypatch.setattr(cudnn, "works", lambda *facts: False)
    assert select_backend(gpu, torch.bfloat16)[0] is fused
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert select_backend(gpu, torch.bfloat16)[0] is reference
