"""TritonOps: the products of a few rows by this folder's kernels, on weights as the network holds them.

Needs Triton, so it is imported where it is wanted. Many rows go through the network's own modules, which unpack 4-bit
weights once for all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.kernels import linear
from engine.kernels.weights import weight_of
from engine.operations import Norm, PlainOps, Weight

FEW_ROWS = 64
"""Rows up to which a kernel reads each weight once, packed as it is."""


class TritonOps(PlainOps):
    """A weight is a pair: the module, and what kernels read of it.

    `overlap`: a launch may begin while the one before it ends, and reads weights until its input is there; by default
    where the GPU can. What is written and read of the chain itself waits, so any other launch may stand between.
    """

    name = "flat, Triton products"

    def __init__(self, overlap: bool | None = None) -> None:
        self.overlap = overlaps() if overlap is None else overlap
        if self.overlap:
            self.name += ", launches overlap"

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Raises ModelUnsupported for a weight that no kernel reads."""
        return [(each, weight_of(each)) for each in projections]

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """All products of few rows in one launch, norm and residual included."""
        if len(x) > FEW_ROWS:
            return super().linear(x, [module for module, _ in weights], norm=norm, residual=residual)
        held = [weight for _, weight in weights]
        return linear.linear(x, held, norm=norm, residual=residual, overlap=self.overlap)

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Both products of few rows in one launch."""
        if len(x) > FEW_ROWS:
            return super().gated(x, gate[0], up[0], norm=norm)
        return linear.gated(x, gate[1], up[1], norm=norm, overlap=self.overlap)


def overlaps() -> bool:
    """Whether the GPU knows launches that wait inside the kernel: NVIDIA's from Hopper on."""
    return torch.version.cuda is not None and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
