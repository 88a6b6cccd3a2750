"""A few rows times a dense matrix, with the same surroundings as the product with NF4 weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.linear.epilogue import check, chosen, inverse_rms, store, with_bias
from engine.kernels.linear.weights import DenseWeight

MAX_ROWS = 8
"""Rows of x at most: each has sums of its own in registers."""


@dataclass(frozen=True)
class DenseTile:
    """What a program takes at a time: rows of the matrix, columns, and warps to do it with."""

    rows: int
    columns: int
    warps: int


def tile_for(batch: int, rows: int, columns: int) -> DenseTile:
    """A tile for `batch` rows of x and a matrix (N, K)."""
    width = next((width for width in (1024, 512) if columns % width == 0), 1024 if columns > 2048 else 256)
    return DenseTile({1: 4, 2: 4}.get(batch, 2), width, max(1, width // 256))


@triton.jit
def _added(sums, x, x_stride, gain, read, column, inside, B: tl.constexpr, NORM: tl.constexpr):
    added = ()
    for b in tl.static_range(B):
        near = tl.load(x + b * x_stride + column, mask=inside, other=0.0).to(tl.float32)
        if NORM:
            near *= tl.load(gain + column, mask=inside, other=0.0).to(tl.float32)
        added = added + (sums[b] + read.to(tl.float32) * near,)
    return added


@triton.jit
def _dense_kernel(
    x, gain, residual, out, epsilon, x_stride, residual_stride, out_stride,
    matrix1, bias1, rows1, matrix2, bias2, rows2, matrix3, bias3, rows3,
    K: tl.constexpr, POWER: tl.constexpr, B: tl.constexpr, COUNT: tl.constexpr,
    GATED: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, BIAS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    tile, picked, place = chosen(
        tl.program_id(0), (matrix1, bias1, rows1), (matrix2, bias2, rows2), (matrix3, bias3, rows3), COUNT, ROWS
    )
    matrix, bias, rows = picked
    row = tile * ROWS + tl.arange(0, ROWS)
    # Rows past the end do the last row's work again, and are not written.
    near = tl.minimum(row, rows - 1)[:, None]
    zeros = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    sums = ()
    others = ()
    for _ in tl.static_range(B):
        sums = sums + (zeros,)
        others = others + (zeros,)
    for start in range(0, K, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        inside = column < K
        at = near * K + column
        read = tl.load(matrix + at, mask=inside, other=0.0, eviction_policy="evict_first")
        if GATED:
            other = tl.load(matrix2 + at, mask=inside, other=0.0, eviction_policy="evict_first")
        # The compiler would read each row just before it needs it; across a barrier it cannot put that off.
        tl.debug_barrier()
        sums = _added(sums, x, x_stride, gain, read, column, inside, B, NORM)
        if GATED:
            others = _added(others, x, x_stride, gain, other, column, inside, B, NORM)

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
    weights: Sequence[DenseWeight],
    out: Tensor,
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    is_gated: bool = False,
    tile: DenseTile | None = None,
) -> None:
    """Write into `out` (B, N) the products of x (B, K), B at most MAX_ROWS, with one to three matrices in one launch.

    The matrices agree in K and dtype, and in whether and in which dtype they have a bias.
    """
    first = weights[0]
    batch, columns = x.shape
    gain, epsilon = norm or (x, 0.0)
    tile = tile or tile_for(batch, sum(weight.rows for weight in weights), columns)
    check(x, weights, out, gain, residual, is_gated)
    assert 1 <= batch <= MAX_ROWS and all(weight.matrix.is_contiguous() for weight in weights)
    pointers = []
    for weight in [*weights, first, first][:3]:
        # What is not there is not read: any pointer of the right type stands for it.
        pointers += [weight.matrix, weight.matrix if weight.bias is None else weight.bias, weight.rows]
    programs = [triton.cdiv(weight.rows, tile.rows) for weight in weights]
    _dense_kernel[(programs[0] if is_gated else sum(programs),)](
        x, gain, out if residual is None else residual, out, epsilon,
        x.stride(0), 0 if residual is None else residual.stride(0), out.stride(0),
        *pointers,
        K=columns, POWER=triton.next_power_of_2(columns), B=batch, COUNT=1 if is_gated else len(weights),
        GATED=is_gated, NORM=norm is not None, RESIDUAL=residual is not None, BIAS=first.bias is not None,
        ROWS=tile.rows, COLUMNS=tile.columns, num_warps=tile.warps, enable_fp_fusion=True,
    )  # fmt: skip


def multiply(
    x: Tensor,
    weights: Sequence[DenseWeight],
    out: Tensor,
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    is_gated: bool = False,
) -> None:
    """As `launch`, for any number of rows: products by PyTorch, which are as fast as can be from some rows on."""
    wide = x
    if norm is not None:
        wide = torch.nn.functional.rms_norm(x.float(), x.shape[1:], norm[0].float(), norm[1])
    sides = [
        torch.nn.functional.linear(wide.to(weight.matrix.dtype), weight.matrix).float()
        + (0.0 if weight.bias is None else weight.bias.float())
        for weight in weights
    ]
    if is_gated:
        out.copy_(torch.nn.functional.silu(sides[0]) * sides[1])
        return
    y = torch.cat(sides, 1)
    out.copy_(y if residual is None else y + residual)
