"""SuffixCache: the small, growing KV cache of a question and its answer; the same buffer serves while reading."""

from dataclasses import replace

import torch
from torch import Tensor

from engine.core.errors import PodMismatch, WindowExceeded
from engine.core.kv_shape import KVShape
from engine.kvcache.exact import ExactPod, grouped


class SuffixCache:
    """Keys and values of the tokens fed so far, in the model's dtype. Only `append`, `advance` and `crop` change it."""

    def __init__(self, shape: KVShape, capacity: int, device: torch.device) -> None:
        self.shape = shape
        self.capacity = capacity
        self.groups = [
            (shape.empty(capacity, device, group), shape.empty(capacity, device, group))
            for group in range(len(shape.groups))
        ]
        """Keys and values (L, G, capacity, D) of each group of layers."""
        self.length = 0
        self.states: tuple[Tensor, ...] = ()
        """Behind the tokens held, of a model that has such; they are never changed, only others put in their place."""

    @property
    def keys(self) -> Tensor:
        """All layers' (L, G, capacity, D), where they are one group."""
        ((keys, _),) = self.groups
        return keys

    @property
    def values(self) -> Tensor:
        """As `keys`."""
        ((_, values),) = self.groups
        return values

    def append(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write a layer's new keys and values (G, Q, D) behind the tokens held so far; those of its owner are there."""
        if self.shape.per_layer[layer].owner is not None:
            return
        stop = self.length + keys.shape[1]
        if stop > self.capacity:
            raise WindowExceeded(f"{stop} tokens do not fit a tail of {self.capacity}")
        for held, new in zip(self.segment(layer, stop), (keys, values), strict=True):
            held[:, self.length :] = new

    def advance(self, tokens: int, states: tuple[Tensor, ...] = ()) -> None:
        """Count tokens as held, once every layer has appended them; `states` are those behind them."""
        self.length += tokens
        self.states = states

    def crop(self, length: int) -> None:
        """Forget everything behind the first `length` tokens. Raises PodMismatch for states, which cannot go back."""
        if self.states and 0 < length < self.length:
            raise PodMismatch("a state cannot go back to the middle of a text")
        self.length = min(self.length, length)
        self.states = self.states if self.length else ()

    def segment(self, layer: int, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values (G, stop, D) of a layer; by default of the tokens held."""
        group, place = self.shape.places[layer]
        keys, values = self.groups[group]
        stop = self.length if stop is None else stop
        return keys[place, :, :stop], values[place, :, :stop]

    def rows(self, start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (L, G, stop - start, D) of some tokens, of each group of layers."""
        return [(keys[:, :, start:stop], values[:, :, start:stop]) for keys, values in self.groups]

    def freeze(self) -> ExactPod:
        """The tokens held so far as a pod, without a copy but of windows; the tail must not be used afterwards."""
        return replace(grouped(self.shape, self.rows(0, self.length), self.length), states=self.states)
