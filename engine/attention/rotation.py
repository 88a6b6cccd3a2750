"""Turning rows by the matrix that far keys and values are rotated by, and merging what is seen turned with what is not.

Letters as in engine.attention.sdpa.
"""

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.core.lse import Seen, merge
from engine.core.quant import rotated


class Turning(Protocol):
    """Who does it: plain PyTorch, which specifies it, or kernels. `turn` (D, D) undoes itself."""

    def turned(self, rows: Tensor, turn: Tensor) -> Tensor:
        """Rows (..., D) times the matrix, in their dtype."""

    def merged(self, near: Sequence[Seen], far: Sequence[Seen], turn: Tensor | None) -> Tensor:
        """The output (H,Q,D) over all of them, of which the far ones are turned back first."""


class PlainTurning:
    """By PyTorch, in float32."""

    def turned(self, rows: Tensor, turn: Tensor) -> Tensor:
        """See Turning."""
        return rotated(rows, turn)

    def merged(self, near: Sequence[Seen], far: Sequence[Seen], turn: Tensor | None) -> Tensor:
        """See Turning."""
        parts = list(near)
        if far:
            out, lse = merge(list(far))
            parts.append((out if turn is None else self.turned(out, turn), lse))
        return merge(parts)[0]


def choose(device: torch.device, dtype: torch.dtype) -> Turning:
    """The fastest on this device: kernels on a GPU, for dtypes whose products have tensor cores."""
    if device.type != "cuda" or dtype.itemsize != 2 or importlib.util.find_spec("triton") is None:
        return PlainTurning()
    # Needs Triton, which not every machine has.
    from engine.kernels.quant.rotate import TritonTurning

    return TritonTurning()
