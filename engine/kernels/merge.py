"""Merging what the pieces of a work list made of a row of queries: the last step of split-KV attention."""

import triton
import triton.language as tl

from engine.kernels.overlap import follow


@triton.jit
def _gather(outputs, sums, first, stop, row, rows, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Of pieces first..stop: output (WIDTH,) and weight relative to 2 ** the greatest log-sum-exp, and that one."""
    most = tl.full((256,), float("-inf"), tl.float32)
    for start in tl.range(first, stop, 256):
        pieces = start + tl.arange(0, 256)
        most = tl.maximum(most, tl.load(sums + pieces * rows + row, mask=pieces < stop, other=float("-inf")))
    top = tl.max(most, 0)
    # Where nothing was seen, any finite number keeps the differences from being NaN.
    base = tl.where(top == float("-inf"), 0.0, top)
    channels = tl.arange(0, WIDTH)
    out = tl.zeros((BLOCK, WIDTH), tl.float32)
    weight = tl.zeros((BLOCK,), tl.float32)
    # Outputs are asked for without a look at their weights, so that a round need not wait for the one before.
    for start in tl.range(first, stop, BLOCK):
        pieces = start + tl.arange(0, BLOCK)
        places = pieces.to(tl.int64) * rows + row
        share = tl.exp2(tl.load(sums + places, mask=pieces < stop, other=float("-inf")) - base)
        inside = (pieces < stop)[:, None] & (channels < D)[None, :]
        part = tl.load(outputs + places[:, None] * D + channels[None, :], mask=inside, other=0.0)
        out += part * share[:, None]
        weight += share
    return tl.sum(out, 0), tl.sum(weight, 0), top


@triton.jit
def merge(
    out, lse, outputs, sums, ranges, turn, count, heads, SHARE: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, TURNED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """One row (query head, new token): its output (D,), rotated back where pieces were rotated, and log-sum-exp.

    `outputs` (W, SHARE * count, D) and `sums` (W, SHARE * count), in base 2, are the pieces'; `ranges` (G, 3) says
    which are whose. `out` is (Q, H, D), as the next matrix takes it; `lse` (H, Q) gets natural logarithms.
    """
    at = tl.program_id(0)
    head, number = at // count // SHARE, at % (SHARE * count)
    first, middle, stop = tl.load(ranges + head * 3), tl.load(ranges + head * 3 + 1), tl.load(ranges + head * 3 + 2)
    rows = SHARE * count
    channels = tl.arange(0, WIDTH)
    inside = (channels < D)[:, None] & (channels < D)[None, :]
    turn += channels[:, None] * D + channels[None, :]
    # Read before it is needed, as long as there are registers for it.
    EARLY: tl.constexpr = TURNED and WIDTH <= 128
    if EARLY:
        matrix = tl.load(turn, mask=inside, other=0.0)
    if OVERLAP:
        number += follow()
    total, weight, most = _gather(outputs, sums, first, middle, number, rows, D, WIDTH, BLOCK)
    if TURNED:
        far, far_weight, far_most = _gather(outputs, sums, middle, stop, number, rows, D, WIDTH, BLOCK)
        if not EARLY:
            matrix = tl.load(turn, mask=inside, other=0.0)
        far = tl.sum(far[:, None] * matrix, 0)
        higher = tl.maximum(most, far_most)
        share, far_share = tl.exp2(most - higher), tl.exp2(far_most - higher)
        total, weight, most = total * share + far * far_share, weight * share + far_weight * far_share, higher
    place = (at % count * heads + at // count) * D
    tl.store(out + place + channels, (total / weight).to(out.dtype.element_ty), mask=channels < D)
    tl.store(lse + at, (most + tl.log2(weight)) * 0.6931471805599453)
