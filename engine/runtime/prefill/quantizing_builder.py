"""QuantizingBuilder: reads a section and quantizes it on the way; what a chunk leaves behind is stored once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.core.errors import PodMismatch
from engine.kvcache.blocks.by_chunk import from_block, leaving
from engine.kvcache.exact import PodBlock
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.quantized_store import QuantizedStore
from engine.runtime.prefill.quantizing_context import QuantizingContext
from engine.runtime.runner import Runner


class QuantizingBuilder:
    """A prefill.Builder for recipes that pack while reading: peak memory is that of the packed pod, one run of one
    layer unpacked, and one chunk. The same chunks give the same bytes."""

    def __init__(self, runner: Runner, num_tokens: int, layout: Layout) -> None:
        self._runner = runner
        self._store = QuantizedStore(layout, runner.model.shape, num_tokens, runner.model.device)
        self.context = QuantizingContext(self._store, runner.attention)
        self._largest = 0
        """Bytes of a block so far."""

    @property
    def num_read(self) -> int:
        """Tokens read so far."""
        return self.context.suffix.length

    def cut(self, size: int) -> int:
        """Where a next chunk of about `size` tokens ends: with a group of tokens that share scales."""
        return self._store.cut(self.num_read, size)

    def restore(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take the next stored block instead of reading its tokens again. Raises PodMismatch if it is not the next."""
        start, stop, host = from_block(self._store, meta, payload)
        if start != self.num_read:
            raise PodMismatch(f"a block of tokens {start}..{stop} cannot follow token {self.num_read}")
        self._store.scatter(start, stop, host.to(self._store.device))
        self.context.suffix.advance(stop - start)

    def read(self, ids: Sequence[int]) -> None:
        """Read the next chunk. Raises WindowExceeded, and PodMismatch where it does not end at a cut."""
        if not self._store.is_cut(self.num_read + len(ids)):
            raise PodMismatch(f"no chunk can end at token {self.num_read + len(ids)} of {self._store.num_tokens}")
        self._runner.run(self.context, ids)

    def begin(self, ids: Sequence[int]) -> Callable[[], PodBlock]:
        """Begin to read the next chunk; the call that waits for it as bytes to store. Raises as `read` does."""
        start = self.num_read
        self.read(ids)
        self._largest = max(self._largest, self._store.num_bytes(start, self.num_read))
        return leaving(self._store, start, self.num_read, self._largest)

    def feed(self, ids: Sequence[int]) -> PodBlock:
        """Read the next chunk and give it back as bytes to store. Raises as `read` does."""
        return self.begin(ids)()

    def finish(self) -> QuantizedPod:
        """The finished pod, which looks at the builder's memory. Raises PodMismatch while tokens are missing."""
        if self.num_read != self._store.num_tokens:
            raise PodMismatch(f"{self.num_read} of {self._store.num_tokens} tokens are read")
        return self._store.pod()
