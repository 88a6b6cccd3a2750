"""What surrounds the products of a linear layer, over NF4 weights: RMSNorm before, sums and gates after."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.linear.weights import Nf4Weight


@triton.jit
def chosen(tile, first, second, third, COUNT: tl.constexpr, ROWS: tl.constexpr):
    """Of up to three weights, tuples that end with their rows, a program's: its tile, the tuple, its outputs' place."""
    weight = first
    place = 0
    if COUNT > 1:
        tiles = (first[-1] + ROWS - 1) // ROWS
        if tile >= tiles:
            tile -= tiles
            weight = second
            place = first[-1]
            if COUNT > 2:
                tiles = (second[-1] + ROWS - 1) // ROWS
                if tile >= tiles:
                    tile -= tiles
                    weight = third
                    place = first[-1] + second[-1]
    return tile, weight, place


@triton.jit
def inverse_rms(x, epsilon, K: tl.constexpr, POWER: tl.constexpr):
    """1 / sqrt(mean(x^2) + epsilon) of a row of K numbers; POWER: the power of two from K on.

    A factor of the whole row: it is applied to the products, so that no weight waits for it.
    """
    column = tl.arange(0, POWER)
    wide = tl.load(x + column, mask=column < K, other=0.0).to(tl.float32)
    return 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / K + epsilon)


@triton.jit
def with_bias(y, bias, row, valid, BIAS: tl.constexpr):
    """y plus the bias of each row, if there is one."""
    if BIAS:
        y += tl.load(bias + row, mask=valid, other=0.0).to(tl.float32)
    return y


@triton.jit
def store(y, residual, out, valid, RESIDUAL: tl.constexpr):
    """Write y, plus a residual, to `out`, both pointers to each row's place; rounded once."""
    if RESIDUAL:
        y += tl.load(residual, mask=valid, other=0.0).to(tl.float32)
    tl.store(out, y.to(out.dtype.element_ty), mask=valid)


def check(
    x: Tensor, weights: Sequence[Nf4Weight], out: Tensor, gain: Tensor, residual: Tensor | None, is_gated: bool
) -> None:
    """That a launch may count on what it is given: shapes that fit each other, and numbers side by side."""
    batch, columns = x.shape
    first = weights[0]
    assert 1 <= len(weights) <= 3 and all(weight.columns == columns for weight in weights)
    assert x.stride(1) == out.stride(1) == gain.stride(-1) == 1 and gain.shape[-1] == columns
    assert out.shape == (batch, first.rows if is_gated else sum(weight.rows for weight in weights))
    assert residual is None or (residual.shape == out.shape and residual.stride(1) == 1)
    assert not is_gated or (len(weights) == 2 and first.rows == weights[1].rows and residual is None)
