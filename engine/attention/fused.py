"""Attention straight from a layer's fused projection: what a memory may offer for a step of few tokens.

Letters: Q new tokens, H query heads, G key/value heads, D head size, P positions.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from engine.attention.sdpa import KVContext
from engine.core.rope import HeadNorms, Rotary


@runtime_checkable
class FusedKVContext(KVContext, Protocol):
    """A memory that norms the heads and gives them rotary positions itself, on the way to their places."""

    def attend_fused(self, layer: int, rows: Tensor, rotary: Rotary, norms: HeadNorms | None, scale: float) -> Tensor:
        """Take a layer's rows (Q, (H + 2 G) * D): queries, keys, values without positions; give the output (H,Q,D)."""
