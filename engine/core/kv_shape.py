"""KVShape: the shape of a model's keys and values, layer by layer, and of what else its layers keep of a text.

Letters: L layers, G KV heads, T tokens, D head size.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from engine.core.errors import ModelUnsupported


@dataclass(frozen=True)
class LayerShape:
    """One layer's keys and values.

    `window`: how many tokens a query sees, itself the last of them (sliding-window attention); None: all before it.
    `softcap`: c where logits x become c * tanh(x / c) (Gemma 2, arXiv 2408.00118). `sinks`: whether every query head
    has a learned logit beside those of the tokens, which draws attention and gives nothing (gpt-oss, arXiv 2508.10925).
    `owner`: the layer whose keys and values it attends, where it makes none itself (arXiv 2405.12981).
    """

    kv_heads: int
    head_dim: int
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    owner: int | None = None

    def held(self, tokens: int) -> int:
        """How many of a section's tokens what stands behind it can see: the last ones."""
        return tokens if self.window is None else min(tokens, self.window - 1)


@dataclass(frozen=True)
class StateShape:
    """What one layer keeps of all tokens before, in as many numbers however many there are: the end of a convolution's
    input, or the sum of a recurrence (Mamba-2, arXiv 2405.21060; gated delta rule, arXiv 2412.06464).

    `layer`: as the network counts them; `kind` and `place`: where transformers' cache has it there.
    """

    layer: int
    kind: str
    place: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class KVShape:
    """The shape of a model's keys and values. Layers that are alike form a group, whose tensors are one; those with an
    owner stand where it does. Only layers that attend are counted."""

    per_layer: tuple[LayerShape, ...]
    dtype: torch.dtype
    attending: tuple[int, ...] = ()
    """The numbers of those layers in a network that has others beside them."""
    states: tuple[StateShape, ...] = ()

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The layers of each group that hold something, lowest first."""
        kinds = dict.fromkeys(each for each in self.per_layer if each.owner is None)
        return tuple(tuple(n for n, each in enumerate(self.per_layer) if each == kind) for kind in kinds)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Of every layer its group, and where it stands in there."""
        found = {layer: (group, at) for group, of in enumerate(self.groups) for at, layer in enumerate(of)}
        owners = (n if each.owner is None else each.owner for n, each in enumerate(self.per_layer))
        return tuple(found[owner] for owner in owners)

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.per_layer)

    @property
    def kv_heads(self) -> int:
        """Of every layer. Raises ModelUnsupported where layers are not plain."""
        return self._plain.kv_heads

    @property
    def head_dim(self) -> int:
        """Of every layer. Raises ModelUnsupported where layers are not plain."""
        return self._plain.head_dim

    @property
    def peculiarity(self) -> str:
        """What keeps some layers from being plain, which is to attend all tokens in heads like those of all others;
        empty where all are."""
        if self.windows:
            return f"layers that see the last {self.windows[-1]:,} tokens only"
        if any(each.softcap for each in self.per_layer):
            return "soft caps on its attention"
        if any(each.sinks for each in self.per_layer):
            return "attention sinks that were learned"
        return "layers with different heads, or with those of another" if len({*self.per_layer}) > 1 else ""

    @property
    def attends_together(self) -> bool:
        """Whether several sections can be attended at once: a state goes on from one of them."""
        return not self.states

    @property
    def divisible(self) -> bool:
        """Whether some tokens of a section can stand for it: a window holds its end alone, and a state all of it."""
        return not self.windows and not self.states

    @property
    def windows(self) -> tuple[int, ...]:
        """The windows that there are, the smallest first; none where every layer sees all tokens."""
        return tuple(sorted({each.window for each in self.per_layer if each.window is not None}))

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's exact keys and values in all layers."""
        return sum(map(self._row_bytes, self.per_layer))

    @property
    def state_bytes(self) -> int:
        """Bytes of the states behind a section, whatever its length."""
        return sum(each.nbytes for each in self.states)

    def num_bytes(self, tokens: int) -> int:
        """Bytes of the exact pod of a section: of all its tokens, or of a window's, and its states."""
        return sum(each.held(tokens) * self._row_bytes(each) for each in self.per_layer) + self.state_bytes

    def empty(self, tokens: int, device: torch.device, group: int = 0) -> Tensor:
        """Room for the keys or the values of `tokens` tokens of a group: (L, G, T, D)."""
        layers, alike = self.groups[group], self.per_layer[self.groups[group][0]]
        return torch.empty(len(layers), alike.kv_heads, tokens, alike.head_dim, dtype=self.dtype, device=device)

    @property
    def _plain(self) -> LayerShape:
        if self.peculiarity:
            raise ModelUnsupported(f"this model has {self.peculiarity}, which only exact pods hold")
        return self.per_layer[0]

    def _row_bytes(self, layer: LayerShape) -> int:
        return 0 if layer.owner is not None else 2 * layer.kv_heads * layer.head_dim * self.dtype.itemsize
