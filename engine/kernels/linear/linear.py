"""Products with NF4 weights of linear layers on a GPU, for the rows of a decoding step or a question.

RMSNorm before, and bias, residual or gate after, are part of the launch. Nothing waits for the host, nothing is
allocated where `out` is given, and sums run in one order: fit for a CUDA graph. The specification is
tests/engine/kernels/reference_linear.py.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from engine.kernels.linear import nf4_gemm, nf4_gemv
from engine.kernels.linear.weights import Nf4Weight


def linear(
    x: Tensor,
    weights: Sequence[Nf4Weight],
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
    pdl: bool = False,
) -> Tensor:
    """Rows x (B, K) times up to three weights, side by side: (B, sum of N), in x's dtype unless `out` has its own.

    `norm`: RMSNorm of x before, as its weight (K,) and epsilon. `residual` (B, sum of N) is added at the end. Weights
    of one kind share a launch.

    `pdl` (Hopper): few rows may be launched while the kernel before ends; they wait for it before they read x or write
    anything.
    """
    if out is None:
        out = x.new_empty(x.shape[0], sum(weight.rows for weight in weights))
    place = 0
    for _, alike in groupby(weights, _kind):
        group = list(alike)
        end = place + sum(weight.rows for weight in group)
        beside = None if residual is None else residual[:, place:end]
        _launch(x, pdl)(x, group, out[:, place:end], norm=norm, residual=beside)
        place = end
    return out


def gated(
    x: Tensor,
    gate: Nf4Weight,
    up: Nf4Weight,
    *,
    norm: tuple[Tensor, float] | None = None,
    out: Tensor | None = None,
    pdl: bool = False,
) -> Tensor:
    """silu(x @ gate^T) * (x @ up^T) of rows x (B, K): (B, N), in one launch where both weights are of one kind."""
    if out is None:
        out = x.new_empty(x.shape[0], gate.rows)
    if _kind(gate) == _kind(up):
        _launch(x, pdl)(x, [gate, up], out, norm=norm, is_gated=True)
        return out
    opened, wide = (linear(x, [each], norm=norm, pdl=pdl) for each in (gate, up))
    return out.copy_(torch.nn.functional.silu(opened.float()) * wide)


def _launch(x: Tensor, pdl: bool) -> Callable[..., None]:
    """What multiplies so many rows."""
    return partial(nf4_gemv.launch, pdl=pdl) if x.shape[0] <= nf4_gemv.MAX_ROWS else nf4_gemm.launch


def _kind(weight: Nf4Weight) -> tuple[bool, torch.dtype | None]:
    """What weights that share a launch have in common."""
    return weight.nest_table is None, None if weight.bias is None else weight.bias.dtype
