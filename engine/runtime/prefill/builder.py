"""Reading a section chunk by chunk; every finished chunk is a block that can be stored and replayed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from engine.core.errors import PodMismatch
from engine.kvcache.exact import ExactPod, PodBlock, from_block, leaving
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.prefill.quantizing_builder import QuantizingBuilder
from engine.runtime.prefill.sharing_context import SharingContext
from engine.runtime.runner import Runner

_CPU_TOKENS = 1024
_SHARED_TOKENS = 512
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


class Builder(Protocol):
    """Feeds one section through the model: `feed` from `num_read` up to a `cut`, until all is read, then `finish`."""

    @property
    def context(self) -> Context:
        """What the model reads into; cropping its tail makes the builder read these tokens again."""

    @property
    def num_read(self) -> int:
        """Tokens read so far."""

    def cut(self, size: int) -> int:
        """The token in front of which a next chunk of about `size` tokens ends."""

    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take the next stored block instead of reading its tokens again. Raises PodMismatch if it is not the next."""

    def read(self, ids: Sequence[int]) -> None:
        """Read the next chunk. Raises WindowExceeded."""

    def begin(self, ids: Sequence[int]) -> Callable[[], PodBlock]:
        """Begin to read the next chunk; the call that waits for it as bytes to store. Raises WindowExceeded.

        A device may work on the chunk when this returns, and on what is begun next while the bytes go to the host.
        """

    def feed(self, ids: Sequence[int]) -> PodBlock:
        """Read the next chunk and give it back as bytes to store. Raises WindowExceeded."""

    def finish(self) -> ExactPod | QuantizedPod:
        """The pod. Raises PodMismatch while tokens are missing."""


def builder_for(runner: Runner, num_tokens: int, layout: Layout | None = None) -> Builder:
    """What reads a section of so many tokens by the layout's recipe, or exactly."""
    if layout is not None and layout.recipe.precision.while_reading:
        return QuantizingBuilder(runner, num_tokens, layout)
    return PodBuilder(runner, num_tokens, layout)


def read(runner: Runner, ids: Sequence[int], layout: Layout | None = None) -> ExactPod | QuantizedPod:
    """What reading a document leaves behind: its exact pod, or that of a layout whose recipe packs while reading."""
    builder = builder_for(runner, len(ids), layout)
    chunk = chunk_tokens(runner.model.device)
    while builder.num_read < len(ids):
        builder.read(ids[builder.num_read : builder.cut(chunk)])
    return builder.finish()


class PodBuilder:
    """A Builder of exact pods, of one section of `num_tokens` tokens. The same chunks give the same bytes.

    A layout whose recipe says so makes layers share distant keys while they read.
    """

    def __init__(self, runner: Runner, num_tokens: int, layout: Layout | None = None) -> None:
        self._runner = runner
        self._most_tokens = num_tokens
        self._largest = 0
        """Bytes of a block so far."""
        self._suffix = SuffixCache(runner.model.shape, num_tokens, runner.model.device)
        self.context = runner.context((), self._suffix)
        if layout is not None and layout.recipe.sharing.while_reading:
            self.context = SharingContext(layout, self._suffix, runner.attention)
            # It writes out the scores of every query with every near token.
            self._most_tokens = _SHARED_TOKENS

    @property
    def num_read(self) -> int:
        """Tokens read so far."""
        return self._suffix.length

    def cut(self, size: int) -> int:
        """Where the next chunk of `size` tokens ends."""
        return min(self.num_read + size, self._suffix.capacity)

    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take the next stored block instead of reading its tokens again. Raises PodMismatch if it is not the next."""
        start, stop, pairs = from_block(meta, payload, self._runner.model.shape)
        whole = all(start + pair.shape[3] == stop for pair in pairs)
        if start != self.num_read or stop > self._suffix.capacity or not whole:
            raise PodMismatch(f"a block of tokens {start}..{stop} cannot follow token {self.num_read}")
        for rows, pair in zip(self._suffix.rows(start, stop), pairs, strict=True):
            for room, stored in zip(rows, pair, strict=True):
                room.copy_(stored)
        self._suffix.advance(stop - start)

    def read(self, ids: Sequence[int]) -> None:
        """Read the next tokens. Raises WindowExceeded."""
        for start in range(0, len(ids), self._most_tokens):
            self._runner.run(self.context, ids[start : start + self._most_tokens])

    def begin(self, ids: Sequence[int]) -> Callable[[], PodBlock]:
        """Begin to read the next chunk; the call that waits for it as bytes to store. Raises WindowExceeded."""
        start = self.num_read
        self.read(ids)
        stop = self.num_read
        self._largest = max(self._largest, (stop - start) * self._runner.model.shape.token_bytes)
        return leaving(self._suffix.rows(start, stop), start, self._largest)

    def feed(self, ids: Sequence[int]) -> PodBlock:
        """Read the next chunk and give it back as bytes to store. Raises WindowExceeded."""
        return self.begin(ids)()

    def finish(self) -> ExactPod:
        """The frozen pod. Raises PodMismatch while tokens are missing."""
        if self.num_read != self._suffix.capacity:
            raise PodMismatch(f"{self.num_read} of {self._suffix.capacity} tokens are read")
        return self._suffix.freeze()
