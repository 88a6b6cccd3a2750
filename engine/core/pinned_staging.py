"""Staging: host memory that blocks are read into and verified in, and the way from there to the device.

On a GPU it is pinned, since only from there does a copy run beside everything else, and made once: to pin memory takes
longer than to copy it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

ARENA_BYTES = 512 << 20
"""For all blocks that are under way at once."""
_PAGE = 4096


def to_host(there: Tensor, room: int = 0) -> Callable[[], Tensor]:
    """Begin to copy a tensor to host memory, beside whatever the device does next; the call that waits for the copy.

    What is on a GPU gets pinned memory, because that is several times faster, of `room` bytes at least: it is kept, and
    taken again by its size. In host memory the tensor is its own copy.
    """
    if there.device.type != "cuda":
        here = there.cpu()
        return lambda: here
    pinned = torch.empty(max(there.nbytes, room), dtype=torch.uint8, pin_memory=True)
    copy = pinned[: there.nbytes].view(there.dtype).view(there.shape)
    stream: Any = torch.cuda.Stream
    beside = stream(there.device)
    beside.wait_stream(torch.cuda.current_stream(there.device))
    with torch.cuda.stream(beside):
        copy.copy_(there, non_blocking=True)
    there.record_stream(beside)
    done = beside.record_event()

    def arrived() -> Tensor:
        done.synchronize()
        return copy

    return arrived


class Staging:
    """Rooms for blocks in one arena. Several threads may use it; they wait for each other where it is full."""

    def __init__(self, device: torch.device, arena_bytes: int = ARENA_BYTES) -> None:
        self.device = device
        self._size = arena_bytes
        self._pinned = device.type == "cuda"
        self._arena: Tensor | None = None
        self._taken: list[tuple[int, int]] = []
        """Ranges that are in use, ascending."""
        self._changed = threading.Condition()
        self._stream = torch.cuda.Stream(device) if self._pinned else None  # type: ignore[no-untyped-call]

    def warm(self) -> None:
        """Pin the arena ahead of the first block; does nothing on a CPU."""
        if self._pinned:
            with self._changed:
                self._arena = self._arena if self._arena is not None else self._memory(self._size)

    @contextmanager
    def room(self, num_bytes: int) -> Iterator[memoryview]:
        """Room for a block, until everything that was sent from it has arrived."""
        if num_bytes > self._size:
            # Rare, and pinned it would take longer to make than to copy.
            yield torch.empty(num_bytes, dtype=torch.uint8).numpy().data
            self._arrived()
            return
        start = self._take(num_bytes)
        try:
            assert self._arena is not None
            yield self._arena[start : start + num_bytes].numpy().data
            self._arrived()
        finally:
            self._give(start)

    def send(self, host: Tensor) -> Tensor:
        """A copy on the device of what stands in a room, under way beside everything else; on a CPU the same tensor.

        Nobody may use it before `join`.
        """
        if self._stream is None:
            return host
        # Of the current stream, on which it will be used and freed; what still runs there may use the same memory.
        there = torch.empty_like(host, device=self.device)
        with self.sending(there):
            there.copy_(host, non_blocking=True)
        return there

    @contextmanager
    def sending(self, *targets: Tensor) -> Iterator[None]:
        """Copies to tensors of the current stream run beside it in here."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            for each in targets:
                # They may be dropped while the copy still runs, if another block turns out to be damaged.
                each.record_stream(self._stream)

    def join(self) -> None:
        """Let the current stream wait for everything that was sent."""
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def _arrived(self) -> None:
        if self._stream is not None:
            self._stream.record_event().synchronize()

    def _memory(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._pinned)

    def _take(self, num_bytes: int) -> int:
        """The start of a free range, the lowest one that is large enough; waits for it."""
        size = num_bytes + -num_bytes % _PAGE
        with self._changed:
            while (start := self._gap(size)) is None:
                self._changed.wait()
            if self._arena is None:
                self._arena = self._memory(self._size)
            self._taken = sorted([*self._taken, (start, start + size)])
            return start

    def _gap(self, size: int) -> int | None:
        start = 0
        for first, stop in self._taken:
            if first - start >= size:
                break
            start = stop
        return start if start + size <= self._size or not self._taken else None

    def _give(self, start: int) -> None:
        with self._changed:
            self._taken = [each for each in self._taken if each[0] != start]
            if not self._taken and not self._pinned:
                # Pageable memory is quickly had again.
                self._arena = None
            self._changed.notify_all()
