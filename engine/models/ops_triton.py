"""TritonOps: products by the kernels, on weights as the network holds them, and what stands between them.

Needs Triton, so it is imported where it is wanted. For many rows 4-bit weights are unpacked once, and multiplied by
PyTorch, as all others are.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.kernels import elementwise
from engine.kernels.card import card_of
from engine.kernels.linear import int8_lm_head as int8_head
from engine.kernels.linear import linear, nf4_dequant
from engine.kernels.linear.int8_lm_head import can_quantize_head, quantize_head
from engine.kernels.linear.weights import weight_of
from engine.models.ops import Norm, PlainOps, Weight

FEW_ROWS = 64
"""Rows up to which a kernel reads each weight once, packed as it is."""
INT8_HEAD_BYTES = 100_000_000
"""Bytes of an output head from which half of the reading is worth the memory and two launches more."""

log = logging.getLogger(__name__)


class TritonOps(PlainOps):
    """A weight is a pair: the module, and what kernels read of it if it is in four bits; None where PyTorch multiplies.

    `pdl`: a launch may begin while the one before it ends, and reads weights until its input is there; by default
    where the GPU can. What is written and read of the chain itself waits, so any other launch may stand between.

    `int8_head`: one row's logits come from the head in eight bits, at 17/32 of its bytes more of memory, and of the
    likeliest tokens from the exact one; by default where a GPU has a head large enough to matter.
    """

    name = "flat, Triton products"

    def __init__(self, pdl: bool | None = None, int8_head: bool | None = None) -> None:
        gpu = torch.cuda.is_available()
        self.pdl = gpu and card_of(torch.device("cuda")).pdl if pdl is None else pdl
        if self.pdl:
            self.name += ", launches overlap"
        self._int8_head = int8_head
        self.spared_bytes = 0
        """Of weights that a token need not read: what the quick head is smaller by."""

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Raises ModelUnsupported for a weight that no kernel reads."""
        return [(each, weight_of(each)) for each in projections]

    def take_head(self, head: nn.Module) -> Weight:
        """The exact head as `take` has it, and beside it the quick one or None."""
        exact, matrix = (self.take(head), head), head.get_parameter("weight").detach()
        if not can_quantize_head(head) or self._int8_head is False:
            return exact, None
        if self._int8_head is None and (matrix.nbytes < INT8_HEAD_BYTES or not matrix.is_cuda):
            return exact, None
        try:
            quick = quantize_head(matrix)
        except torch.OutOfMemoryError:
            log.warning("The output head is read whole, since there is no memory to hold it in 8 bits too.")
            return exact, None
        self.name += ", head in 8 bits"
        self.spared_bytes = matrix.nbytes - quick.nbytes
        return exact, quick

    def logits(self, x: Tensor, head: Weight, norm: Norm) -> Tensor:
        """One row by the quick head, if there is one; several, which are to be scored, by the exact one."""
        exact, quick = head
        if quick is not None and len(x) == 1:
            return int8_head.logits(x, quick, norm)
        return super().logits(x, exact, norm)

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        """In one pass, also over many heads (B, H, D)."""
        return elementwise.norm(x.reshape(-1, x.shape[-1]), *norm).view(x.shape)

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """All products of few rows in one launch, norm and residual included; of many rows in one product."""
        packed = [weight for _, weight in weights if weight is not None]
        if len(packed) < len(weights):
            return super().linear(x, [module for module, _ in weights], norm=norm, residual=residual)
        if len(x) <= FEW_ROWS:
            return linear.linear(x, packed, norm=norm, residual=residual, pdl=self.pdl)
        if norm is not None:
            x = self.norm(x, norm)
        out = nn.functional.linear(x, nf4_dequant.matrix_of(packed, x), nf4_dequant.bias_of(packed, x))
        return out if residual is None else out.add_(residual)

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Both products of few rows in one launch; of many rows in one product."""
        if len(x) <= FEW_ROWS and gate[1] is not None and up[1] is not None:
            return linear.gated(x, gate[1], up[1], norm=norm, pdl=self.pdl)
        return elementwise.gate(self.linear(x, [gate, up], norm=norm))

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """In one pass, which leaves heads outermost, as attention likes them."""
        return elementwise.rope(x, cos, sin) if len(x) > FEW_ROWS else super().rope(x, cos, sin)
