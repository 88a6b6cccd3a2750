"""RowOps: products on a processor, over weights side by side; few rows by half-precision weights where those are exact.

Letters: B new tokens, K and N a product's input and output size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.ops import Norm, PlainOps, Weight

FEW_ROWS = 64
"""Rows up to which reading half of the bytes is quicker than PyTorch's products of many rows."""
_FINEST = 2.0**-25
"""Half of the smallest step of float16: nearer no number can come, and a weight is thousands of it."""


@dataclass(frozen=True)
class RowWeight:
    """Projections of one input: their matrix (N, K), their biases, and the matrix in float16 as FBGEMM reads it."""

    matrix: Tensor
    bias: Tensor | None
    half: Any


class RowOps(PlainOps):
    """PyTorch's products on the CPU over weights side by side; those of few rows by FBGEMM.

    It reads weights in float16, which holds every weight of bfloat16 exactly, and multiplies and adds up in float32: a
    token reads half of what it would in float32, and nothing is rounded that was not. PyTorch's own products of
    bfloat16 are slower even with the same bytes. Where the processor has no such products one row goes by PyTorch's
    matrix-vector loop, since oneDNN reads bfloat16 at half the speed of that.
    """

    def __init__(self) -> None:
        self._half = has_half_products()
        self.name = "flat, one token by matrix-vector products"
        self.spared_bytes = 0
        """Of weights that a token need not read: what float16 is smaller by."""

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Weights joined, and biases."""
        linears = [each for each in projections if isinstance(each, nn.Linear)]
        matrix = _joined([each.weight for each in linears])
        half = _half(matrix) if self._half else None
        if half is not None:
            self.name = "flat, few rows by float16 weights"
            self.spared_bytes += matrix.nbytes - 2 * matrix.numel()
        return [RowWeight(matrix, _biases(linears), half)]

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """One product."""
        if norm is not None:
            x = self.norm(x, norm)
        (weight,) = weights
        out = _product(x, weight)
        return out if residual is None else out.add_(residual)

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Two products."""
        if norm is not None:
            x = self.norm(x, norm)
        return nn.functional.silu(_product(x, gate), inplace=True).mul_(_product(x, up))


def select_ops(projections: Sequence[nn.Module]) -> PlainOps:
    """The fastest operations for a network's projections, where it is loaded: by what they are, never by a trial.

    The same document must give the same bytes on every day.
    """
    linears = [each for each in projections if type(each) is nn.Linear and each.weight.device.type == "cpu"]
    known = {each.weight.dtype for each in linears} <= {torch.float32, torch.bfloat16}
    return RowOps() if known and len(linears) == len(projections) and torch.backends.mkldnn.enabled else PlainOps()


def has_half_products() -> bool:
    """Whether PyTorch comes with FBGEMM, and this processor has the instructions that it needs."""
    capable = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return capable and "fbgemm" in torch.backends.quantized.supported_engines


def _half(matrix: Tensor) -> Any:
    """The matrix (N, K) in float16, packed; None where that is another matrix."""
    wide = matrix.float()
    if not bool((wide.half().float() - wide).abs().max() <= _FINEST):
        return None
    return torch.ops.quantized.linear_prepack_fp16(wide, None)


def _product(x: Tensor, weight: RowWeight) -> Tensor:
    """(B, K) -> (B, N)."""
    if weight.half is not None and len(x) <= FEW_ROWS:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.float(), weight.half).to(x.dtype)
        return out if weight.bias is None else out.add_(weight.bias)
    if len(x) > 1:
        return nn.functional.linear(x, weight.matrix, weight.bias)
    # A switch of the whole process: whoever multiplies in another thread meanwhile gets the same sums, some slower.
    torch._C._set_mkldnn_enabled(False)
    try:
        return nn.functional.linear(x, weight.matrix, weight.bias)
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
