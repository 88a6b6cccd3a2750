"""Operations: the few products that a decoder block is made of, so that a device may bring its own.

Letters: B new tokens, K and N a product's input and output size, H query heads, G key/value heads, D head size.
"""

from collections.abc import Sequence
from typing import Any, Protocol

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


class Ops(Protocol):
    """What a block computes, besides attention."""

    @property
    def name(self) -> str:
        """What it is, in a few words."""

    @property
    def spared_bytes(self) -> int:
        """Bytes of the weights that a token does not read, since fewer stand for them."""

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Hold projections of the same input; `linear` then gives their outputs side by side, in this order."""

    def take_head(self, head: nn.Module) -> Weight:
        """Hold the output head, for `logits`."""

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """RMSNorm over the last dimension."""

    def logits(self, x: Tensor, head: Weight, norm: Norm) -> Tensor:
        """(B, K) -> (B, V) in float32 at least: the norm, then the head. The likeliest tokens' are not rounded."""

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """(B, K) -> (B, N) of all the weights, with their biases; `norm` comes before, `residual` (B, N) on top."""

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """(B, K) -> silu(gate x) * (up x) (B, N)."""

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn heads (B, H, D) to their positions; cos and sin (B, 1, D), the first half of sin negated."""


class PlainOps:
    """PyTorch's own operations. A weight is the network's module itself, so whatever hangs on it acts as before."""

    name = "flat"
    spared_bytes = 0

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """The modules, as they are."""
        return projections

    def take_head(self, head: nn.Module) -> Weight:
        """As any other, beside the module itself."""
        return self.take(head), head

    def logits(self, x: Tensor, head: Weight, norm: Norm) -> Tensor:
        """A product as any other, and the largest again from unrounded numbers if the head is plain."""
        weights, module = head
        near = self.linear(x, weights, norm=norm)
        if near.dtype.itemsize > 2:
            return near
        return _again(near.float(), x, module, norm) if type(module) is nn.Linear else near.float()

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """In float32, cast, then times the weight: transformers' order."""
        weight, eps = norm
        return weight * _unit(x, eps).to(x.dtype)

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """One product a weight."""
        if norm is not None:
            x = self.norm(x, norm)
        parts: list[Tensor] = [weight(x) for weight in weights]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return out if residual is None else residual + out

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Two products."""
        if norm is not None:
            x = self.norm(x, norm)
        out: Tensor = nn.functional.silu(gate(x)) * up(x)
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Halves swapped by a roll: their signs are in `sin`."""
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


class RowOps(PlainOps):
    """PyTorch's products on the CPU over weights side by side; one token's by its matrix-vector loop.

    Left alone, PyTorch gives such a product of bfloat16 to oneDNN, which reads the weights at half the speed of that
    loop. Both add up in float32.
    """

    name = "flat, one token by matrix-vector products"

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Weights (N, K), joined, and biases."""
        linears = [each for each in projections if isinstance(each, nn.Linear)]
        return [(_joined([each.weight for each in linears]), _biases(linears))]

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """One product."""
        if norm is not None:
            x = self.norm(x, norm)
        ((weight, bias),) = weights
        out = _product(x, weight, bias)
        return out if residual is None else out.add_(residual)

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Two products."""
        if norm is not None:
            x = self.norm(x, norm)
        return nn.functional.silu(_product(x, *gate), inplace=True).mul_(_product(x, *up))


def select_ops(projections: Sequence[nn.Module]) -> PlainOps:
    """The fastest operations for a network's projections, where it is loaded: by what they are, never by a trial.

    The same document must give the same bytes on every day.
    """
    linears = [each for each in projections if type(each) is nn.Linear and each.weight.device.type == "cpu"]
    known = {each.weight.dtype for each in linears} <= {torch.float32, torch.bfloat16}
    return RowOps() if known and len(linears) == len(projections) and torch.backends.mkldnn.enabled else PlainOps()


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


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, K) -> (B, N)."""
    if len(x) > 1:
        return nn.functional.linear(x, weight, bias)
    # A switch of the whole process: whoever multiplies in another thread meanwhile gets the same sums, some slower.
    torch._C._set_mkldnn_enabled(False)
    try:
        return nn.functional.linear(x, weight, bias)
    finally:
        torch._C._set_mkldnn_enabled(True)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors along their first dimension; they become views of the result, so that they take no memory twice."""
    first = parts[0].detach()
    if len(parts) == 1:
        return first
    if _adjacent(parts):
        # Joined before: who did that goes on to use them where they are.
        return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride(), first.storage_offset())
    whole = torch.cat([each.detach() for each in parts])
    start = 0
    for part in parts:
        part.data = whole[start : start + len(part)]
        start += len(part)
    return whole


def _biases(linears: Sequence[nn.Linear]) -> Tensor | None:
    """The biases (N,) of several projections, zero where one has none; None where none has."""
    if all(each.bias is None for each in linears):
        return None
    return torch.cat(
        [each.weight.new_zeros(len(each.weight)) if each.bias is None else each.bias.detach() for each in linears]
    )


def _adjacent(parts: Sequence[Tensor]) -> bool:
    """Whether tensors lie one behind the other in one storage."""
    storage, place = parts[0].untyped_storage().data_ptr(), parts[0].storage_offset()
    for part in parts:
        if not part.is_contiguous() or part.untyped_storage().data_ptr() != storage or part.storage_offset() != place:
            return False
        place += part.numel()
    return True
