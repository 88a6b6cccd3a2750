"""Attention straight from a layer's fused projection: what a memory may offer for a step of few tokens.

Letters: Q new tokens, H query heads, G key/value heads, D head size, P positions.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from engine.attention import Memory


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: cos and sin (P, D / 2) of every position, and those of the new tokens (Q,)."""

    cos: Tensor
    sin: Tensor
    positions: Tensor


@dataclass(frozen=True)
class HeadNorms:
    """RMSNorm of every head, before its rotation: weights (D,) of queries and of keys."""

    query: Tensor
    keys: Tensor
    epsilon: float


@runtime_checkable
class FusedMemory(Memory, Protocol):
    """A memory that norms and turns the heads itself, on the way to their places."""

    def attend_fused(self, layer: int, rows: Tensor, rotary: Rotary, norms: HeadNorms | None, scale: float) -> Tensor:
        """Take a layer's rows (Q, (H + 2 G) * D): queries, keys, values, not turned yet; give the output (H,Q,D)."""
