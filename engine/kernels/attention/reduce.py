"""Merging the splits of a row of queries by their log-sum-exp: the last step of split-KV attention."""

import triton
import triton.language as tl

from engine.kernels.pdl import launch_dependents, wait_for_primary
from engine.kernels.quant.hadamard import rotate_row


@triton.jit
def reduce_splits(
    out, lse, outputs, sums, ranges, count, heads, SHARE: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, ROTATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One row (query head, new token): its output (D,), rotated back where splits were rotated, and log-sum-exp.

    `outputs` (W, SHARE * count, D) and `sums` (W, SHARE * count), in base 2, are the splits'; `ranges` (G, 3) says
    which are whose. `out` is (Q, H, D), as the next matrix takes it; `lse` (H, Q) gets natural logarithms.
    """
    at = tl.program_id(0)
    head, row = at // count // SHARE, at % (SHARE * count)
    first, middle, stop = tl.load(ranges + head * 3), tl.load(ranges + head * 3 + 1), tl.load(ranges + head * 3 + 2)
    rows = SHARE * count
    if PDL:
        row += wait_for_primary()
        launch_dependents()
    m_i = tl.full((256,), float("-inf"), tl.float32)
    for start in tl.range(first, stop, 256):
        splits = start + tl.arange(0, 256)
        m_i = tl.maximum(m_i, tl.load(sums + splits * rows + row, mask=splits < stop, other=float("-inf")))
    m_row = tl.max(m_i, 0)
    # Where nothing was seen, any finite number keeps the differences from being NaN.
    base = tl.where(m_row == float("-inf"), 0.0, m_row)
    channels = tl.arange(0, WIDTH)
    acc = tl.zeros((BLOCK, WIDTH), tl.float32)
    rotated_acc = tl.zeros((BLOCK, WIDTH), tl.float32)
    l_i = tl.zeros((BLOCK,), tl.float32)
    # Outputs are asked for without a look at their weights, so that a round need not wait for the one before.
    for start in tl.range(first, stop, BLOCK):
        splits = start + tl.arange(0, BLOCK)
        places = splits.to(tl.int64) * rows + row
        alpha = tl.exp2(tl.load(sums + places, mask=splits < stop, other=float("-inf")) - base)
        inside = (splits < stop)[:, None] & (channels < D)[None, :]
        part = tl.load(outputs + places[:, None] * D + channels[None, :], mask=inside, other=0.0)
        if ROTATE:
            acc += part * tl.where(splits < middle, alpha, 0.0)[:, None]
            rotated_acc += part * tl.where(splits < middle, 0.0, alpha)[:, None]
        else:
            acc += part * alpha[:, None]
        l_i += alpha
    out_row, l_row = tl.sum(acc, 0), tl.sum(l_i, 0)
    if ROTATE:
        out_row += rotate_row(tl.sum(rotated_acc, 0), D)
    place = (at % count * heads + at // count) * D
    tl.store(out + place + channels, (out_row / l_row).to(out.dtype.element_ty), mask=channels < D)
    tl.store(lse + at, (m_row + tl.log2(l_row)) * 0.6931471805599453)
