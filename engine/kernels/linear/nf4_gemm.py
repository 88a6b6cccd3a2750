"""The rows of a question's prompt times NF4 weights: each weight is decoded once for all of them, on tensor cores.

A program takes ROWS rows of a weight and up to 64 rows of x, and goes along K in whole blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.card import card_of
from engine.kernels.linear.epilogue import check, chosen, store, with_bias
from engine.kernels.linear.nf4_decode import _WORDS, block_scale, decoded, table_entries
from engine.kernels.linear.nf4_gemv import arguments
from engine.kernels.linear.weights import BLOCK, Nf4Weight


@dataclass(frozen=True)
class PromptTile:
    """What a program takes at a time: rows of the weight, columns (whole blocks), warps, and loads under way."""

    rows: int
    columns: int
    warps: int
    stages: int


def tile_for(columns: int) -> PromptTile:
    """A tile for a weight (N, K)."""
    return PromptTile(32, 2 * BLOCK if columns % (2 * BLOCK) == 0 else BLOCK, 4, 3)


@triton.jit
def _matrix(words, entries, scale, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ASM: tl.constexpr):
    """Weights (ROWS, COLUMNS) in float32 of words and scales (ROWS, COLUMNS / 8)."""
    t0, t1, t2, t3, t4, t5, t6, t7 = decoded(words, entries, ASM)
    # The place in a word becomes three dimensions of two, the one that counts by four first.
    even = tl.join(tl.join(t0 * scale, t4 * scale), tl.join(t2 * scale, t6 * scale))
    odd = tl.join(tl.join(t1 * scale, t5 * scale), tl.join(t3 * scale, t7 * scale))
    return tl.reshape(tl.join(even, odd), (ROWS, COLUMNS))


@triton.jit
def _nf4_prompt_kernel(
    x, gain, residual, out, table, epsilon, x_stride, residual_stride, out_stride, batch,
    words1, scales1, nest_table1, nest_scales1, offset1, bias1, rows1,
    words2, scales2, nest_table2, nest_scales2, offset2, bias2, rows2,
    words3, scales3, nest_table3, nest_scales3, offset3, bias3, rows3,
    K: tl.constexpr, B: tl.constexpr, COUNT: tl.constexpr,
    GATED: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, NESTED: tl.constexpr,
    ASM: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    tile, picked, place = chosen(
        tl.program_id(0),
        (words1, scales1, nest_table1, nest_scales1, offset1, bias1, rows1),
        (words2, scales2, nest_table2, nest_scales2, offset2, bias2, rows2),
        (words3, scales3, nest_table3, nest_scales3, offset3, bias3, rows3),
        COUNT, ROWS,
    )  # fmt: skip
    words, scales, nest_table, nest_scales, offset, bias, rows = picked
    shift = 0.0
    other_shift = 0.0
    if NESTED:
        shift = tl.load(offset)
        if GATED:
            other_shift = tl.load(offset2)
    WORDS: tl.constexpr = COLUMNS // 8
    row = tile * ROWS + tl.arange(0, ROWS)
    # Rows past the end do the last row's work again, and are not written.
    near = tl.minimum(row, rows - 1)[:, None]
    b = (tl.program_id(1) * B + tl.arange(0, B))[:, None]
    entries = table_entries(table, ROWS, WORDS, ASM)
    sums = tl.full((B, ROWS), 0.0, tl.float32)
    others = tl.full((B, ROWS), 0.0, tl.float32)
    squares = tl.full((B,), 0.0, tl.float32)
    for start in tl.range(0, K, COLUMNS, num_stages=STAGES):
        column = start + tl.arange(0, COLUMNS)[None, :]
        read = tl.load(x + b * x_stride + column, mask=b < batch, other=0.0)
        if NORM:
            wide = read.to(tl.float32)
            squares += tl.sum(wide * wide, 1)
            read = (wide * tl.load(gain + column).to(tl.float32)).to(read.dtype)
        word = start // 8 + tl.arange(0, WORDS)[None, :]
        at = near * (K // 8) + word
        block = near * (K // (8 * _WORDS)) + word // _WORDS
        scale = block_scale(scales, nest_table, nest_scales, shift, block, NESTED, ASM)
        weight = _matrix(tl.load(words + at), entries, scale, ROWS, COLUMNS, ASM).to(read.dtype)
        sums = tl.dot(read, tl.trans(weight), sums, input_precision=PRECISION)
        if GATED:
            scale = block_scale(scales2, nest_table2, nest_scales2, other_shift, block, NESTED, ASM)
            weight = _matrix(tl.load(words2 + at), entries, scale, ROWS, COLUMNS, ASM).to(read.dtype)
            others = tl.dot(read, tl.trans(weight), others, input_precision=PRECISION)

    if NORM:
        factor = (1.0 / tl.sqrt(squares / K + epsilon))[:, None]
        sums *= factor
        others *= factor
    row = row[None, :]
    y = with_bias(sums, bias, row, row < rows, BIAS)
    if GATED:
        y = y / (1.0 + tl.exp(-y)) * with_bias(others, bias2, row, row < rows, BIAS)
    at = place + row
    valid = (row < rows) & (b < batch)
    store(y, residual + b * residual_stride + at, out + b * out_stride + at, valid, RESIDUAL)


def launch(
    x: Tensor,
    weights: Sequence[Nf4Weight],
    out: Tensor,
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    is_gated: bool = False,
    tile: PromptTile | None = None,
    asm: bool | None = None,
) -> None:
    """Write into `out` (B, N) the products of x (B, K), of any B, with one to three weights in one launch.

    As `nf4_gemv.launch`, except that x, under a norm, and each weight are rounded to x's dtype before they meet.
    """
    first = weights[0]
    batch, columns = x.shape
    gain, epsilon = norm or (x, 0.0)
    tile = tile or tile_for(columns)
    check(x, weights, out, gain, residual, is_gated)
    assert columns % tile.columns == 0 and tile.columns % BLOCK == 0
    programs = [triton.cdiv(weight.rows, tile.rows) for weight in weights]
    # No fewer than 16 rows make a product on tensor cores.
    together = min(64, max(16, triton.next_power_of_2(batch)))
    _nf4_prompt_kernel[(programs[0] if is_gated else sum(programs), triton.cdiv(batch, together))](
        x, gain, out if residual is None else residual, out, first.table, epsilon,
        x.stride(0), 0 if residual is None else residual.stride(0), out.stride(0), batch,
        *arguments(weights),
        K=columns, B=together, COUNT=1 if is_gated else len(weights),
        GATED=is_gated, NORM=norm is not None, RESIDUAL=residual is not None, BIAS=first.bias is not None,
        NESTED=first.nest_table is not None, ASM=card_of(x.device).ptx if asm is None else asm,
        PRECISION="ieee", ROWS=tile.rows, COLUMNS=tile.columns, STAGES=tile.stages,
        num_warps=tile.warps, enable_fp_fusion=True,
    )  # fmt: skip
