"""KVShape: the shape of one model's keys and values.

Letters: L layers, G KV heads, T tokens, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KVShape:
    """The shape of one model's keys and values."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's exact keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    def empty(self, tokens: int, device: torch.device) -> Tensor:
        """Room for the keys or the values of `tokens` tokens: (L, G, T, D)."""
        return torch.empty(self.layers, self.kv_heads, tokens, self.head_dim, dtype=self.dtype, device=device)
