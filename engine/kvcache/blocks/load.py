"""Loading: the blocks of a pod, read to where they are verified, several at once, and put together."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from engine.core.pinned_staging import ARENA_BYTES
from engine.kvcache.exact import ExactPod
from engine.kvcache.quantized import QuantizedPod

MOST_THREADS = 16
"""More only wait for each other: for memory, and for Python's lock."""


class Loader(Protocol):
    """What puts blocks together; see engine.kvcache.exact.PodLoader."""

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to, until it is added."""

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take a verified block."""

    def finish(self) -> ExactPod | QuantizedPod:
        """The pod."""


@dataclass(frozen=True)
class Source:
    """A stored block of so many bytes, as it is stored.

    `read` fills a buffer of that size by so many threads, verifies it, and gives the block's facts and payload.
    """

    num_bytes: int
    read: Callable[[memoryview, int], tuple[Mapping[str, Any], memoryview]]


def load(loader: Loader, sources: Sequence[Source], threads: int | None = None) -> ExactPod | QuantizedPod:
    """The pod of these blocks. Raises what `read` and the loader raise; what has not begun by then is not read.

    `threads`: by default one for every processor that this process may use. Each reads a block; where there is room
    for a few large ones only, several read one.
    """
    threads = threads or min(MOST_THREADS, _processors())
    at_once = max(1, min(threads, len(sources), _fitting(sources)))

    def add(source: Source) -> None:
        with loader.room(source.num_bytes) as buffer:
            loader.add(*source.read(buffer, threads // at_once))

    with ThreadPoolExecutor(at_once, "loading") as pool:
        waiting = [pool.submit(add, source) for source in sources]
        try:
            for each in waiting:
                each.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return loader.finish()


def _fitting(sources: Sequence[Source]) -> int:
    """How many of the largest block there is room for at once."""
    return ARENA_BYTES // max([1, *(source.num_bytes for source in sources)])


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
