"""Reading a section chunk by chunk; every finished chunk is a block that can be stored and replayed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from engine.core.errors import PodMismatch
from engine.kvcache.blocks import by_chunk, states
from engine.kvcache.exact import ExactPod, PodBlock, from_block, leaving
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.quantized_store import QuantizedStore
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.prefill.quantizing_context import QuantizingContext
from engine.runtime.runner import Runner

_CPU_TOKENS = 1024
_GPU_TOKENS = 4096
"""Weights of four bits are unpacked once a chunk and layer, and long chunks fill a GPU."""
_SMALL_GPU_TOKENS = 1024
_LAST_TOKENS = 1536
"""Up to so many are not worth another chunk: each unpacks all weights, in some milliseconds."""
_GPU_ROOM_BYTES = 4 << 30
"""Free memory from which the longer chunk is taken: its activations take some hundreds of megabytes."""


def chunk_tokens(device: torch.device) -> int:
    """Tokens to read at once on a device, as it is now."""
    if device.type != "cuda":
        return _CPU_TOKENS
    return _GPU_TOKENS if torch.cuda.mem_get_info(device)[0] >= _GPU_ROOM_BYTES else _SMALL_GPU_TOKENS


def reads_ahead(device: torch.device) -> bool:
    """Whether to read on while a chunk is written: not where both are work for the same processor."""
    return device.type == "cuda"


def tapered(size: int, left: int) -> int:
    """Tokens of the next chunk, of so many that are left, for a reader that writes one chunk while it reads the next.

    At the end chunks become shorter, so that little is left to write once all is read.
    """
    return 1 << (left - 1).bit_length() - 1 if _LAST_TOKENS < left <= size else size


class Builder(ABC):
    """Feeds one section through the model: `feed` from `num_read` up to a `cut`, until all is read, then `finish`.

    The same chunks give the same bytes.
    """

    def __init__(self, runner: Runner, num_tokens: int, context: Context) -> None:
        """`context`: what the model reads into; cropping its tail makes the builder read these tokens again."""
        self._runner, self._num_tokens, self.context = runner, num_tokens, context
        self._largest = 0
        """Bytes of a block so far."""

    @property
    def num_read(self) -> int:
        """Tokens read so far."""
        return self.context.suffix.length

    @abstractmethod
    def cut(self, size: int) -> int:
        """The token in front of which a next chunk of about `size` tokens ends."""

    @abstractmethod
    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take the next stored block instead of reading its tokens again. Raises PodMismatch if it is not the next."""

    def restore_states(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take the stored states behind everything that was restored. Raises PodMismatch on others."""
        shape, suffix = self._runner.model.shape, self.context.suffix
        suffix.states = states.from_block(meta, payload, shape, self.num_read, self._runner.model.device)

    @abstractmethod
    def read(self, ids: Sequence[int]) -> None:
        """Read the next chunk. Raises WindowExceeded, and PodMismatch where it does not end at a cut."""

    def begin(self, ids: Sequence[int]) -> Callable[[], PodBlock]:
        """Begin to read the next chunk; the call that waits for it as bytes to store. Raises as `read` does.

        A device may work on the chunk when this returns, and on what is begun next while the bytes go to the host.
        """
        start = self.num_read
        self.read(ids)
        self._largest = max(self._largest, self._num_bytes(start, self.num_read))
        leaving = self._leaving(start, self.num_read)
        if not (behind := self.context.suffix.states):
            return leaving
        beside = states.leaving(behind, self.num_read)
        return lambda: replace(leaving(), states=beside())

    def feed(self, ids: Sequence[int]) -> PodBlock:
        """Read the next chunk and give it back as bytes to store. Raises as `read` does."""
        return self.begin(ids)()

    @abstractmethod
    def finish(self) -> ExactPod | QuantizedPod:
        """The pod, which looks at the builder's memory. Raises PodMismatch while tokens are missing."""

    @abstractmethod
    def _num_bytes(self, start: int, stop: int) -> int:
        """Bytes of a block of tokens start..stop."""

    @abstractmethod
    def _leaving(self, start: int, stop: int) -> Callable[[], PodBlock]:
        """That block on its way to host memory."""

    def _need_all(self) -> None:
        if self.num_read != self._num_tokens:
            raise PodMismatch(f"{self.num_read} of {self._num_tokens} tokens are read")
        if self._runner.model.shape.states and not self.context.suffix.states:
            raise PodMismatch("the states behind the section are missing")


def builder_for(runner: Runner, num_tokens: int, layout: Layout | None = None) -> Builder:
    """What reads a section of so many tokens by the layout's recipe, or exactly."""
    if layout is not None and layout.recipe.precision.while_reading:
        return QuantizingBuilder(runner, num_tokens, layout)
    return PodBuilder(runner, num_tokens)


def read(runner: Runner, ids: Sequence[int], layout: Layout | None = None) -> ExactPod | QuantizedPod:
    """What reading a document leaves behind: its exact pod, or that of a layout whose recipe packs while reading."""
    builder = builder_for(runner, len(ids), layout)
    chunk = chunk_tokens(runner.model.device)
    while builder.num_read < len(ids):
        builder.read(ids[builder.num_read : builder.cut(chunk)])
    return builder.finish()


class PodBuilder(Builder):
    """Of exact pods."""

    def __init__(self, runner: Runner, num_tokens: int) -> None:
        self._suffix = SuffixCache(runner.model.shape, num_tokens, runner.model.device)
        super().__init__(runner, num_tokens, runner.context((), self._suffix))

    def cut(self, size: int) -> int:
        return min(self.num_read + size, self._num_tokens)

    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        start, stop, pairs = from_block(meta, payload, self._runner.model.shape)
        whole = all(start + pair.shape[3] == stop for pair in pairs)
        if start != self.num_read or stop > self._num_tokens or not whole:
            raise PodMismatch(f"a block of tokens {start}..{stop} cannot follow token {self.num_read}")
        for rows, pair in zip(self._suffix.rows(start, stop), pairs, strict=True):
            for room, stored in zip(rows, pair, strict=True):
                room.copy_(stored)
        self._suffix.advance(stop - start)

    def read(self, ids: Sequence[int]) -> None:
        self._runner.run(self.context, ids)

    def _num_bytes(self, start: int, stop: int) -> int:
        return (stop - start) * self._runner.model.shape.token_bytes

    def _leaving(self, start: int, stop: int) -> Callable[[], PodBlock]:
        return leaving(self._suffix.rows(start, stop), start, self._largest)

    def finish(self) -> ExactPod:
        self._need_all()
        return self._suffix.freeze()


class QuantizingBuilder(Builder):
    """For recipes that pack while reading: peak memory is that of the packed pod, one run of one layer unpacked, and
    one chunk. What a chunk leaves behind is stored once."""

    def __init__(self, runner: Runner, num_tokens: int, layout: Layout) -> None:
        self._store = QuantizedStore(layout, runner.model.shape, num_tokens, runner.model.device)
        super().__init__(runner, num_tokens, QuantizingContext(self._store, runner.attention))

    def cut(self, size: int) -> int:
        return self._store.cut(self.num_read, size)

    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        start, stop, host = by_chunk.from_block(self._store, meta, payload)
        if start != self.num_read:
            raise PodMismatch(f"a block of tokens {start}..{stop} cannot follow token {self.num_read}")
        self._store.scatter(start, stop, host.to(self._store.device))
        self.context.suffix.advance(stop - start)

    def read(self, ids: Sequence[int]) -> None:
        if not self._store.is_cut(self.num_read + len(ids)):
            raise PodMismatch(f"no chunk can end at token {self.num_read + len(ids)} of {self._num_tokens}")
        self._runner.run(self.context, ids)

    def _num_bytes(self, start: int, stop: int) -> int:
        return self._store.num_bytes(start, stop)

    def _leaving(self, start: int, stop: int) -> Callable[[], PodBlock]:
        return by_chunk.leaving(self._store, start, stop, self._largest)

    def finish(self) -> QuantizedPod:
        self._need_all()
        return replace(self._store.pod(), states=self.context.suffix.states)
