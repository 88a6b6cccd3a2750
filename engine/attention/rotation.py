"""Rotating rows by the matrix that distant keys and values are rotated by, and merging what is seen turned with what is
not.

Letters as in engine.attention.sdpa.
"""

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.core.lse import AttentionState, merge
from engine.core.quant import rotated


class Rotation(Protocol):
    """Who does it: plain PyTorch, which specifies it, or kernels. `rotation` (D, D) undoes itself."""

    def rotate(self, rows: Tensor, rotation: Tensor) -> Tensor:
        """Rows (..., D) times the matrix, in their dtype."""

    def merge_rotated(
        self, proximal: Sequence[AttentionState], distant: Sequence[AttentionState], rotation: Tensor | None
    ) -> Tensor:
        """The output (H,Q,D) over all of them, of which the distant ones are turned back first."""


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
    if device.type != "cuda" or dtype.itemsize != 2 or importlib.util.find_spec("triton") is None:
        return TorchRotation()
    # Needs Triton, which not every machine has.
    from engine.kernels.quant.rotate import TritonRotation

    return TritonRotation()
