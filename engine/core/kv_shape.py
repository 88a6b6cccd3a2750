"""KVShape: the shape of a model's keys and values, layer by layer.

Letters: L layers, G KV heads, T tokens, D head size.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from engine.core.errors import ModelUnsupported


@dataclass(frozen=True)
class LayerShape:
    """One layer's keys and values.

    `window`: how many tokens a query sees, itself the last of them (sliding-window attention); None: all before it.
    """

    kv_heads: int
    head_dim: int
    window: int | None = None

    def held(self, tokens: int) -> int:
        """How many of a section's tokens what stands behind it can see: the last ones."""
        return tokens if self.window is None else min(tokens, self.window - 1)


@dataclass(frozen=True)
class KVShape:
    """The shape of a model's keys and values. Layers that are alike form a group, whose tensors are one."""

    per_layer: tuple[LayerShape, ...]
    dtype: torch.dtype

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The layers of each group, lowest first."""
        kinds = dict.fromkeys(self.per_layer)
        return tuple(tuple(n for n, each in enumerate(self.per_layer) if each == kind) for kind in kinds)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Of every layer its group, and where it stands in there."""
        found = {layer: (group, at) for group, of in enumerate(self.groups) for at, layer in enumerate(of)}
        return tuple(found[layer] for layer in range(self.layers))

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.per_layer)

    @property
    def kv_heads(self) -> int:
        """Of every layer. Raises ModelUnsupported where layers differ."""
        return self._alike.kv_heads

    @property
    def head_dim(self) -> int:
        """Of every layer. Raises ModelUnsupported where layers differ."""
        return self._alike.head_dim

    @property
    def windows(self) -> tuple[int, ...]:
        """The windows that there are, the smallest first; none where every layer sees all tokens."""
        return tuple(sorted({each.window for each in self.per_layer if each.window is not None}))

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's exact keys and values in all layers."""
        return sum(self._row_bytes(each) for each in self.per_layer)

    def num_bytes(self, tokens: int) -> int:
        """Bytes of the exact pod of a section: of all its tokens, or of a window's."""
        return sum(each.held(tokens) * self._row_bytes(each) for each in self.per_layer)

    def empty(self, tokens: int, device: torch.device, group: int = 0) -> Tensor:
        """Room for the keys or the values of `tokens` tokens of a group: (L, G, T, D)."""
        layers, alike = self.groups[group], self.per_layer[self.groups[group][0]]
        return torch.empty(len(layers), alike.kv_heads, tokens, alike.head_dim, dtype=self.dtype, device=device)

    @property
    def _alike(self) -> LayerShape:
        if len({(each.kv_heads, each.head_dim) for each in self.per_layer}) > 1:
            raise ModelUnsupported("this model's layers have different heads, which only exact pods hold")
        return self.per_layer[0]

    def _row_bytes(self, layer: LayerShape) -> int:
        return 2 * layer.kv_heads * layer.head_dim * self.dtype.itemsize
