"""Operations: the few products that a decoder block is made of, so that a device may bring its own.

Letters: B new tokens, K and N a product's input and output size, H query heads, G key/value heads, D head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Weight = Any
"""A projection as one implementation holds it."""
Norm = tuple[Tensor, float]
"""An RMSNorm: its weight (K,) and its epsilon."""
AGAIN = 64
"""Tokens of which the logits are exact: the likeliest."""
_ROWS = 16
"""Of which those are computed at once."""


class PlainOps:
    """What a block computes, besides attention: by PyTorch's own operations, until a device brings others.

    A weight is the network's module itself, so whatever hangs on it acts as before.
    """

    name = "flat"
    """What it is, in a few words."""
    spared_bytes = 0
    """Bytes of the weights that a token does not read, since fewer stand for them."""

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Hold projections of the same input; `linear` then gives their outputs side by side, in this order."""
        return projections

    def take_head(self, head: nn.Module) -> Weight:
        """Hold the output head, for `logits`: as any other, beside the module itself."""
        return self.take(head), head

    def logits(self, x: Tensor, head: Weight, norm: Norm) -> Tensor:
        """(B, K) -> (B, V) in float32 at least: the norm, then the head. The likeliest tokens' are not rounded."""
        weights, module = head
        near = self.linear(x, weights, norm=norm)
        if near.dtype.itemsize > 2:
            return near
        return _again(near.float(), x, module, norm) if type(module) is nn.Linear else near.float()

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """RMSNorm over the last dimension: in float32, cast, then times the weight, in transformers' order."""
        weight, eps = norm
        return weight * _unit(x, eps).to(x.dtype)

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """(B, K) -> (B, N) of all the weights, with their biases; `norm` comes before, `residual` (B, N) on top."""
        if norm is not None:
            x = self.norm(x, norm)
        parts: list[Tensor] = [weight(x) for weight in weights]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return out if residual is None else residual + out

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """(B, K) -> silu(gate x) * (up x) (B, N)."""
        if norm is not None:
            x = self.norm(x, norm)
        out: Tensor = nn.functional.silu(gate(x)) * up(x)
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn heads (B, H, D) to their positions; cos and sin (B, 1, D), the first half of sin negated."""
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _unit(x: Tensor, epsilon: float) -> Tensor:
    """x over its root mean square, in float32."""
    wide = x.to(torch.float32)
    return wide * wide.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()


def _again(near: Tensor, x: Tensor, head: nn.Linear, norm: Norm) -> Tensor:
    """Logits (B, V) of which the AGAIN largest of each row are computed anew in float32, in place.

    In bfloat16 neighbours of the largest are equal to it at one position of sixty, and the choice among them is noise.
    """
    matrix, bias = head.weight, head.bias
    asked = _unit(x, norm[1]) * norm[0].float()
    for rows, wide in zip(torch.split(near, _ROWS), torch.split(asked, _ROWS), strict=True):
        largest = rows.topk(min(AGAIN, rows.shape[1])).indices
        exact = (matrix[largest].float() @ wide[..., None]).squeeze(-1)
        rows.scatter_(1, largest, exact if bias is None else exact + bias[largest].float())
    return near
