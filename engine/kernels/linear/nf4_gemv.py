"""A few rows times NF4 weights: each weight is read once, as bitsandbytes stores it, and decoded in registers.

A program takes ROWS rows of a weight. Its threads stand along K: each reads four words (16 bytes, 32 weights) of every
row, and the numbers of x that belong to them once. Nothing is shared before the sum at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.card import card_of
from engine.kernels.linear.epilogue import check, chosen, inverse_rms, store, with_bias
from engine.kernels.linear.nf4_decode import _WORDS, block_scale, decoded, eight, table_entries
from engine.kernels.linear.weights import Nf4Weight
from engine.kernels.pdl import launch_dependents, wait_for_primary

MAX_ROWS = 8
"""Rows of x at most: each has sums of its own in registers."""


@dataclass(frozen=True)
class Tile:
    """What a program takes at a time: rows of the weight, words (of eight weights) along K, and warps to do it with.

    `ahead`: the next words are read before these are decoded, at the price of registers for both.
    """

    rows: int
    words: int
    warps: int
    ahead: bool = False


def tile_for(batch: int, columns: int, is_gated: bool) -> Tile:
    """A tile for `batch` rows of x and weights of K columns: for one row, that of the shortest time on an H100."""
    words = columns // 8
    # Whole strides along K where there are any: a last one that is partly empty costs as much as a full one.
    width = next((width for width in (512, 256) if words % width == 0), 512 if words > 1024 else 128)
    height = {1: 4 if is_gated or width == 256 else 8, 2: 4}.get(batch, 2)
    # Where one stride is the whole row, its words can be read before x is there at no price.
    return Tile(height, width, max(1, width // 128), ahead=words <= width)


@triton.jit
def _read(words, row_at, start, K: tl.constexpr, WORDS: tl.constexpr, EVEN: tl.constexpr):
    """The words of each row from `start` on; they are read once, and need not stay in a cache."""
    word = start + tl.arange(0, WORDS)[None, :]
    if EVEN:
        return tl.load(words + row_at + word, eviction_policy="evict_first")
    else:
        return tl.load(words + row_at + word, mask=word < K // 8, other=0, eviction_policy="evict_first")


@triton.jit
def _added(
    sums, x, x_stride, gain, words, entries, scale, column, B: tl.constexpr, NORM: tl.constexpr, ASM: tl.constexpr
):
    """The sums of each row of x, one tensor each, plus the products of these words."""
    t0, t1, t2, t3, t4, t5, t6, t7 = decoded(words, entries, ASM)
    if NORM:
        g0, g1, g2, g3, g4, g5, g6, g7 = eight(gain, column, ASM)
    added = ()
    for b in tl.static_range(B):
        x0, x1, x2, x3, x4, x5, x6, x7 = eight(x + b * x_stride, column, ASM)
        if NORM:
            # On x, and not on the weight, since x is shared by all rows.
            x0, x1, x2, x3, x4, x5, x6, x7 = x0 * g0, x1 * g1, x2 * g2, x3 * g3, x4 * g4, x5 * g5, x6 * g6, x7 * g7
        products = t0 * x0 + t1 * x1 + t2 * x2 + t3 * x3 + t4 * x4 + t5 * x5 + t6 * x6 + t7 * x7
        added = added + (sums[b] + products * scale,)
    return added


@triton.jit
def _nf4_kernel(
    x, gain, residual, out, table, epsilon, x_stride, residual_stride, out_stride,
    words1, scales1, nest_table1, nest_scales1, offset1, bias1, rows1,
    words2, scales2, nest_table2, nest_scales2, offset2, bias2, rows2,
    words3, scales3, nest_table3, nest_scales3, offset3, bias3, rows3,
    K: tl.constexpr, POWER: tl.constexpr, B: tl.constexpr, COUNT: tl.constexpr,
    GATED: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, NESTED: tl.constexpr,
    ASM: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr, AHEAD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        launch_dependents()
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
    row = tile * ROWS + tl.arange(0, ROWS)
    # Rows past the end do the last row's work again, and are not written.
    near = tl.minimum(row, rows - 1)[:, None]
    entries = table_entries(table, ROWS, WORDS, ASM)
    zeros = tl.full((ROWS, WORDS), 0.0, tl.float32)
    sums = ()
    others = ()
    for _ in tl.static_range(B):
        sums = sums + (zeros,)
        others = others + (zeros,)
    EVEN: tl.constexpr = (K // 8) % WORDS == 0
    row_at = near * (K // 8)
    if AHEAD:
        ahead = _read(words, row_at, 0, K, WORDS, EVEN)
        if GATED:
            other_ahead = _read(words2, row_at, 0, K, WORDS, EVEN)
    ready = x
    if PDL:
        # Weights do not depend on the kernel before, x does. The sum keeps the compiler from reading x any earlier.
        ready += wait_for_primary()
    for start in range(0, K // 8, WORDS):
        if AHEAD:
            read = ahead
            if GATED:
                other = other_ahead
            if K // 8 > WORDS:
                ahead = _read(words, row_at, start + WORDS, K, WORDS, False)
                if GATED:
                    other_ahead = _read(words2, row_at, start + WORDS, K, WORDS, False)
        else:
            read = _read(words, row_at, start, K, WORDS, EVEN)
            if GATED:
                other = _read(words2, row_at, start, K, WORDS, EVEN)
        # The compiler would read each row's words just before it needs them; across a barrier it cannot put that off.
        tl.debug_barrier()
        word = start + tl.arange(0, WORDS)[None, :]
        inside = word < K // 8
        block = word // _WORDS
        column = word * 8
        if not EVEN:
            # Past the end of the row the last words' addresses are read again, at a scale of zero.
            block = tl.minimum(block, K // (8 * _WORDS) - 1)
            column = tl.minimum(column, K - 8)
        column = tl.broadcast_to(column, (ROWS, WORDS))
        block = tl.broadcast_to(block, (ROWS, WORDS)) + near * (K // (8 * _WORDS))
        scale = block_scale(scales, nest_table, nest_scales, shift, block, NESTED, ASM)
        if not EVEN:
            scale = tl.where(inside, scale, 0.0)
        sums = _added(sums, ready, x_stride, gain, read, entries, scale, column, B, NORM, ASM)
        if GATED:
            scale = block_scale(scales2, nest_table2, nest_scales2, other_shift, block, NESTED, ASM)
            if not EVEN:
                scale = tl.where(inside, scale, 0.0)
            others = _added(others, ready, x_stride, gain, other, entries, scale, column, B, NORM, ASM)

    valid = row < rows
    for b in tl.static_range(B):
        y = tl.sum(sums[b], 1)
        factor = 1.0
        if NORM:
            factor = inverse_rms(x + b * x_stride, epsilon, K, POWER)
        y = with_bias(y * factor, bias, row, valid, BIAS)
        if GATED:
            up = with_bias(tl.sum(others[b], 1) * factor, bias2, row, valid, BIAS)
            y = y / (1.0 + tl.exp(-y)) * up
        at = place + row
        store(y, residual + b * residual_stride + at, out + b * out_stride + at, valid, RESIDUAL)


def launch(
    x: Tensor,
    weights: Sequence[Nf4Weight],
    out: Tensor,
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    is_gated: bool = False,
    tile: Tile | None = None,
    asm: bool | None = None,
    pdl: bool = False,
) -> None:
    """Write into `out` (B, N) the products of x (B, K), B at most MAX_ROWS, with one to three weights in one launch.

    `pdl` (Hopper): the launch may begin while the one before it ends, and reads weights until x is there.

    The weights agree in K, in whether their scales are quantized, and in whether and in which dtype they have a bias.
    """
    first = weights[0]
    batch, columns = x.shape
    gain, epsilon = norm or (x, 0.0)
    tile = tile or tile_for(batch, columns, is_gated)
    check(x, weights, out, gain, residual, is_gated)
    # Eight numbers of x are read at a time.
    assert 1 <= batch <= MAX_ROWS and x.stride(0) % 8 == x.data_ptr() % 16 == gain.data_ptr() % 16 == 0
    programs = [triton.cdiv(weight.rows, tile.rows) for weight in weights]
    _nf4_kernel[(programs[0] if is_gated else sum(programs),)](
        x, gain, out if residual is None else residual, out, first.table, epsilon,
        x.stride(0), 0 if residual is None else residual.stride(0), out.stride(0),
        *arguments(weights),
        K=columns, POWER=triton.next_power_of_2(columns), B=batch, COUNT=1 if is_gated else len(weights),
        GATED=is_gated, NORM=norm is not None, RESIDUAL=residual is not None, BIAS=first.bias is not None,
        NESTED=first.nest_table is not None, ASM=card_of(x.device).ptx if asm is None else asm,
        ROWS=tile.rows, WORDS=tile.words, AHEAD=tile.ahead, PDL=pdl,
        num_warps=tile.warps, enable_fp_fusion=True, launch_pdl=pdl,
    )  # fmt: skip


def arguments(weights: Sequence[Nf4Weight]) -> list[Any]:
    """One to three weights as a kernel takes three of them."""
    found: list[Any] = []
    for weight in [*weights, weights[0], weights[0]][:3]:
        nest = (weight.nest_table, weight.nest_scales, weight.offset)
        # What is not there is not read: any pointer of the right type stands for it.
        nest = (weight.table,) * 3 if weight.nest_table is None else nest
        bias = weight.table if weight.bias is None else weight.bias
        found += [weight.words, weight.scales, *nest, bias, weight.rows]
    return found
