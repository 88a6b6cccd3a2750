"""Products with the weights of linear layers in plain PyTorch: the specification of `engine.kernels.linear`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.kernels.linear.int8_lm_head import AGAIN, GROUP, Int8Head
from engine.kernels.linear.weights import BLOCK, NEST, Nf4Weight


def linear(
    x: Tensor,
    weights: Sequence[Nf4Weight],
    *,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
    pdl: bool = False,
) -> Tensor:
    """Rows x (B, K) times up to three weights, side by side: (B, sum of N).

    `norm`: RMSNorm of x before, as its weight (K,) and epsilon. `residual` (B, sum of N) is added at the end.
    `pdl` is about launches, and changes nothing here.
    """
    wide = _normed(x, norm)
    y = torch.cat([_product(wide, weight) for weight in weights], 1)
    return _rounded(y if residual is None else y + residual.float(), x, out)


def gated(
    x: Tensor,
    gate: Nf4Weight,
    up: Nf4Weight,
    *,
    norm: tuple[Tensor, float] | None = None,
    out: Tensor | None = None,
    pdl: bool = False,
) -> Tensor:
    """silu(x @ gate^T) * (x @ up^T) of rows x (B, K): (B, N)."""
    wide = _normed(x, norm)
    return _rounded(torch.nn.functional.silu(_product(wide, gate)) * _product(wide, up), x, out)


def logits(x: Tensor, head: Int8Head, norm: tuple[Tensor, float], again: int = AGAIN) -> Tensor:
    """See int8_lm_head.logits. Of exactly `again` tokens the logits are exact; kernels may take some more."""
    wide = _normed(x, norm)
    out = wide @ dequantized(head).T
    largest = out[0].topk(min(again, out.shape[1])).indices
    out[:, largest] = wide @ head.exact[largest].float().T
    return out


def dequantized(weight: Nf4Weight | Int8Head) -> Tensor:
    """The matrix (N, K) in float32."""
    if isinstance(weight, Int8Head):
        return (weight.codes.float() - 128) * weight.scales.float().repeat_interleave(GROUP, 1)
    scales = weight.scales
    if weight.nest_table is not None and weight.nest_scales is not None and weight.offset is not None:
        nest = weight.nest_scales.repeat_interleave(NEST)[: len(scales)]
        scales = weight.nest_table[scales.long()] * nest + weight.offset
    packed = weight.words.view(torch.uint8).long()
    codes = torch.stack([packed >> 4, packed & 15], 1)
    return (weight.table[codes].reshape(-1, BLOCK) * scales[:, None]).reshape(weight.rows, weight.columns)


def _product(wide: Tensor, weight: Nf4Weight) -> Tensor:
    y = wide @ dequantized(weight).T
    return y if weight.bias is None else y + weight.bias.float()


def _normed(x: Tensor, norm: tuple[Tensor, float] | None) -> Tensor:
    wide = x.float()
    if norm is None:
        return wide
    gain, epsilon = norm
    return wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + epsilon) * gain.float()


def _rounded(y: Tensor, x: Tensor, out: Tensor | None) -> Tensor:
    return y.to(x.dtype) if out is None else out.copy_(y)
