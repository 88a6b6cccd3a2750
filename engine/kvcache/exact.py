"""Pod: the frozen key/value memory of one section, and the blocks it is stored in.

A pod never changes once it is built. It knows the position that each kept slot had in its section, so evidence can be
shown on the page and rotary positions stay right when slots are selected.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.core.pinned_staging import Staging, to_host
from engine.kvcache.segment import Segment

MOST_BYTES = 32 << 20
"""Of a stored block. How many tokens are read at once says nothing of how many are best loaded at once."""


@dataclass(frozen=True)
class PodBlock:
    """Tokens start..stop of a pod as plain bytes: `meta` names dtype and shape, `payload` holds keys, then values."""

    start: int
    stop: int
    meta: Mapping[str, Any]
    payload: memoryview


@dataclass(frozen=True)
class Pod:
    """Keys and values (L, G, K, D), the position of each kept slot (K,), and the number of tokens that were read."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    num_tokens: int

    @property
    def nbytes(self) -> int:
        """Bytes of everything a load must bring back."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.positions.device

    def segments(self, layer: int) -> list[Segment]:
        """What a layer meets here."""
        # PyTorch's flash attention ends the process over a segment without slots.
        slots = len(self.positions)
        return [Segment(self.keys[layer], self.values[layer], self.positions)] if slots else []

    def select(self, slots: Tensor) -> "Pod":
        """The same memory restricted to some slots (ascending, (K',)), ending right behind the last of them.

        Positions stay as they were, so what follows stands behind the last slot as if the section ended there.
        """
        slots = slots.to(self.positions.device)
        positions = self.positions.index_select(0, slots)
        stop = int(positions[-1]) + 1 if len(slots) else 0
        return Pod(self.keys.index_select(2, slots), self.values.index_select(2, slots), positions, stop)

    def open(self) -> "Pod":
        """Itself: an exact pod needs no unpacking."""
        return self

    def check(self) -> None:
        """Raise PodMismatch where the parts do not belong together."""
        slots = self.keys.shape[2]
        if self.keys.shape != self.values.shape or self.positions.shape != (slots,):
            raise PodMismatch(f"keys {tuple(self.keys.shape)}, values {tuple(self.values.shape)}, slots {slots}")
        if slots and (bool((self.positions.diff() <= 0).any()) or int(self.positions[-1]) >= self.num_tokens):
            raise PodMismatch("positions are not ascending within the section")


def leaving(keys: Tensor, values: Tensor, start: int, room: int = 0) -> Callable[[], PodBlock]:
    """Keys and values (L, G, C, D) of tokens start..start+C on their way to plain bytes in host memory, to `room` bytes
    at least; the call that waits for them."""
    pair = torch.stack([keys, values])
    meta = {"dtype": str(keys.dtype).removeprefix("torch."), "shape": list(pair.shape), "start": start}
    arrived, stop = to_host(pair, room), start + keys.shape[2]
    return lambda: PodBlock(start, stop, meta, arrived().view(torch.uint8).numpy().data.cast("B"))


def to_block(keys: Tensor, values: Tensor, start: int) -> PodBlock:
    """Copy keys and values (L, G, C, D) of tokens start..start+C into plain bytes."""
    return leaving(keys, values, start)()


def pieces(block: PodBlock) -> Iterator[PodBlock]:
    """The block itself, or if it is large several blocks of consecutive tokens, to be loaded at the same time.

    A chunk that was packed while it was read stays whole: from the middle of it reading could not go on to the same
    bytes.
    """
    tokens = block.stop - block.start
    if len(block.payload) <= MOST_BYTES or "shape" not in block.meta:
        yield block
        return
    dtype = getattr(torch, str(block.meta["dtype"]))
    keys, values = torch.frombuffer(block.payload, dtype=dtype).view(block.meta["shape"])
    step = max(1, MOST_BYTES * tokens // len(block.payload))
    for first in range(0, tokens, step):
        yield to_block(keys[:, :, first : first + step], values[:, :, first : first + step], block.start + first)


def from_block(meta: Mapping[str, Any], payload: memoryview, shape: KVShape) -> tuple[int, Tensor]:
    """The start and the stacked keys and values (2, L, G, C, D) of stored bytes. Raises PodMismatch on foreign ones."""
    dims = tuple(meta["shape"])
    expected = (2, shape.layers, shape.kv_heads, dims[3] if len(dims) == 5 else -1, shape.head_dim)
    dtype = getattr(torch, str(meta["dtype"]), None)
    if dims != expected or dtype != shape.dtype:
        raise PodMismatch(f"a block of {meta['dtype']} {dims} does not fit this model ({shape.dtype} {expected})")
    if math.prod(dims) * shape.dtype.itemsize != len(payload):
        raise PodMismatch(f"a block of {len(payload)} bytes cannot hold {dims}")
    return int(meta["start"]), torch.frombuffer(payload, dtype=shape.dtype).view(dims)


class PodLoader:
    """Puts stored blocks together into a pod. Blocks may come in any order and from several threads at once."""

    def __init__(self, shape: KVShape, num_tokens: int, device: torch.device, staging: Staging | None = None) -> None:
        self._shape = shape
        self._num_tokens = num_tokens
        self._staging = staging or Staging(device)
        self._keys, self._values = shape.empty(num_tokens, device), shape.empty(num_tokens, device)
        self._ranges: list[tuple[int, int]] = []

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to, until it is added."""
        return self._staging.room(num_bytes)

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Copy a verified block to its place. Raises PodMismatch on a foreign one, of which nothing is copied."""
        start, pair = from_block(meta, payload, self._shape)
        stop = start + pair.shape[3]
        if stop > self._num_tokens:
            raise PodMismatch(f"a block ends at token {stop} of {self._num_tokens}")
        with self._staging.sending(self._keys, self._values):
            # In one piece to the device, where it is far quicker to put it to its places.
            there = pair.to(self._keys.device, non_blocking=True)
            self._keys[:, :, start:stop] = there[0]
            self._values[:, :, start:stop] = there[1]
        self._ranges.append((start, stop))

    def finish(self) -> Pod:
        """The pod, whole for whatever the current stream does next. Raises PodMismatch where tokens are missing or
        came twice."""
        stop = 0
        for start, end in sorted(self._ranges):
            if start != stop:
                raise PodMismatch(f"a block starts at token {start}, expected {stop}")
            stop = end
        if stop != self._num_tokens:
            raise PodMismatch(f"blocks hold {stop} tokens, expected {self._num_tokens}")
        self._staging.join()
        positions = torch.arange(self._num_tokens, device=self._keys.device)
        return Pod(self._keys, self._values, positions, self._num_tokens)
