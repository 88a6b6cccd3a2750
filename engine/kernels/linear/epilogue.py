"""What surrounds the products of a linear layer, whatever its weights are: RMSNorm before, sums and gates after."""

import triton
import triton.language as tl


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
