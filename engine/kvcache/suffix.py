"""SuffixCache: the small, growing KV cache of a question and its answer; the same buffer serves while reading."""

import torch
from torch import Tensor

from engine.core.errors import WindowExceeded
from engine.core.kv_shape import KVShape
from engine.kvcache.exact import Pod


class SuffixCache:
    """Keys and values of the tokens fed so far, in the model's dtype. Only `append`, `advance` and `crop` change it."""

    def __init__(self, shape: KVShape, capacity: int, device: torch.device) -> None:
        self.keys = shape.empty(capacity, device)
        self.values = shape.empty(capacity, device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self.keys.shape[2]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write a layer's new keys and values (G, Q, D) behind the tokens held so far."""
        stop = self.length + keys.shape[1]
        if stop > self.capacity:
            raise WindowExceeded(f"{stop} tokens do not fit a tail of {self.capacity}")
        self.keys[layer, :, self.length : stop] = keys
        self.values[layer, :, self.length : stop] = values

    def advance(self, tokens: int) -> None:
        """Count tokens as held, once every layer has appended them."""
        self.length += tokens

    def crop(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        self.length = min(self.length, length)

    def segment(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values (G, length, D) of a layer."""
        return self.keys[layer, :, : self.length], self.values[layer, :, : self.length]

    def freeze(self) -> Pod:
        """The tokens held so far as a pod, without a copy; the tail must not be used afterwards."""
        keys, values = self.keys[:, :, : self.length], self.values[:, :, : self.length]
        return Pod(keys, values, torch.arange(self.length, device=keys.device), self.length)
