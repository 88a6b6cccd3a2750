"""Merging what the pieces of a work list made of a row of queries: the last step of split-KV attention."""

import triton
import triton.language as tl

from engine.kernels.pdl import launch_dependents, wait_for_primary
from engine.kernels.quant.hadamard import rotate_row


@triton.jit
def reduce_splits(
    out, lse, outputs, sums, ranges, count, heads, SHARE: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, ROTATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One row (query head, new token): its output (D,), rotated back where pieces were rotated, and log-sum-exp.

    `outputs` (W, SHARE * count, D) and `sums` (W, SHARE * count), in base 2, are the pieces'; `ranges` (G, 3) says
    which are whose. `out` is (Q, H, D), as the next matrix takes it; `lse` (H, Q) gets natural logarithms.
    """
    at = tl.program_id(0)
    head, row = at // count // SHARE, at % (SHARE * count)
    first, middle, stop = tl.load(ranges + head * 3), tl.load(ranges + head * 3 + 1), tl.load(ranges + head * 3 + 2)
    rows = SHARE * count
    if PDL:
        row += wait_for_primary()
        launch_dependents()
    most = tl.full((256,), float("-inf"), tl.float32)
    for start in tl.range(first, stop, 256):
        pieces = start + tl.arange(0, 256)
        most = tl.maximum(most, tl.load(sums + pieces * rows + row, mask=pieces < stop, other=float("-inf")))
    top = tl.max(most, 0)
    # Where nothing was seen, any finite number keeps the differences from being NaN.
    base = tl.where(top == float("-inf"), 0.0, top)
    channels = tl.arange(0, WIDTH)
    proximal = tl.zeros((BLOCK, WIDTH), tl.float32)
    distant = tl.zeros((BLOCK, WIDTH), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    # Outputs are asked for without a look at their weights, so that a round need not wait for the one before.
    for start in tl.range(first, stop, BLOCK):
        pieces = start + tl.arange(0, BLOCK)
        places = pieces.to(tl.int64) * rows + row
        share = tl.exp2(tl.load(sums + places, mask=pieces < stop, other=float("-inf")) - base)
        inside = (pieces < stop)[:, None] & (channels < D)[None, :]
        part = tl.load(outputs + places[:, None] * D + channels[None, :], mask=inside, other=0.0)
        if ROTATE:
            proximal += part * tl.where(pieces < middle, share, 0.0)[:, None]
            distant += part * tl.where(pieces < middle, 0.0, share)[:, None]
        else:
            proximal += part * share[:, None]
        weights += share
    total, weight = tl.sum(proximal, 0), tl.sum(weights, 0)
    if ROTATE:
        total += rotate_row(tl.sum(distant, 0), D)
    place = (at % count * heads + at // count) * D
    tl.store(out + place + channels, (total / weight).to(out.dtype.element_ty), mask=channels < D)
    tl.store(lse + at, (top + tl.log2(weight)) * 0.6931471805599453)
