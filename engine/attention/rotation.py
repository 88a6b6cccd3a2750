"""The Hadamard rotation of distant keys and values (QuaRot, arXiv 2404.00456), and merging attention over both kinds.

Letters as in engine.attention.sdpa.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.core.lse import AttentionState, merge
from engine.core.quant import rotated
from engine.kernels.card import why_not_triton


class Rotation(Protocol):
    """Who does it: plain PyTorch, which specifies it, or kernels. `rotation` (D, D) undoes itself."""

    def rotate(self, rows: Tensor, rotation: Tensor) -> Tensor:
        """Rows (..., D) times the matrix, in their dtype."""

    def merge_rotated(
        self, proximal: Sequence[AttentionState], distant: Sequence[AttentionState], rotation: Tensor | None
    ) -> Tensor:
        """The output (H,Q,D) over all of them, of which the distant ones are rotated back first."""


class TorchRotation:
    """By PyTorch, in float32."""

    def rotate(self, rows: Tensor, rotation: Tensor) -> Tensor:
        """See Rotation."""
        return rotated(rows, rotation)

    def merge_rotated(
        self, proximal: Sequence[AttentionState], distant: Sequence[AttentionState], rotation: Tensor | None
    ) -> Tensor:
        """See Rotation."""
        parts = list(proximal)
        if distant:
            out, lse = merge(list(distant))
            parts.append((out if rotation is None else self.rotate(out, rotation), lse))
        return merge(parts)[0]


def select_rotation(device: torch.device, dtype: torch.dtype) -> Rotation:
    """The fastest on this device: kernels on a GPU, for dtypes whose products have tensor cores."""
    if dtype.itemsize != 2 or why_not_triton(device):
        return TorchRotation()
    # Needs Triton, which not every machine has.
    from engine.kernels.quant.rotate import TritonRotation

    return TritonRotation()
