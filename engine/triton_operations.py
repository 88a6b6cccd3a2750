"""TritonOps: the products of a few rows by this folder's kernels, on weights as the network holds them.

Needs Triton, so it is imported where it is wanted. Many rows go through the network's own modules, which unpack 4-bit
weights once for all of them.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from engine.kernels import linear
from engine.kernels.weights import weight_of
from engine.operations import Norm, PlainOps, Weight

FEW_ROWS = 64
"""Rows up to which a kernel reads each weight once, packed as it is."""


class TritonOps(PlainOps):
    """A weight is a pair: the module, and what kernels read of it."""

    name = "flat, Triton products"

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        """Raises ModelUnsupported for a weight that no kernel reads."""
        return [(each, weight_of(each)) for each in projections]

    def linear(
        self, x: Tensor, weights: Sequence[Weight], *, norm: Norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """All products of few rows in one launch, norm and residual included."""
        if len(x) > FEW_ROWS:
            return super().linear(x, [module for module, _ in weights], norm=norm, residual=residual)
        return linear.linear(x, [weight for _, weight in weights], norm=norm, residual=residual)

    def gated(self, x: Tensor, gate: Weight, up: Weight, *, norm: Norm | None = None) -> Tensor:
        """Both products of few rows in one launch."""
        if len(x) > FEW_ROWS:
            return super().gated(x, gate[0], up[0], norm=norm)
        return linear.gated(x, gate[1], up[1], norm=norm)
