"""RoPE: rotary positions as such, which turn keys to a position and back to none (arXiv 2104.09864).

Letters: K tokens, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Angles:
    """`frequencies` (D / 2,): what every pair of channels turns by from one position to the next, in radians.

    `scaling`: what rotary positions also multiply by, in some models.
    """

    frequencies: Tensor
    scaling: float = 1.0

    def apply(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Keys (..., K, D) without positions, at positions (K,): in float32."""
        cos, sin = self._at(positions)
        return self.scaling * _rotate(keys.float(), cos, sin)

    def undo(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Keys (..., K, D) at positions (K,), without them: in float32."""
        cos, sin = self._at(positions)
        return _rotate(keys.float(), cos, -sin) / self.scaling

    def _at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[:, None].float() * self.frequencies.to(positions.device)
        return angles.cos(), angles.sin()


def _rotate(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = keys.chunk(2, -1)
    turned = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat(turned, -1)


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
