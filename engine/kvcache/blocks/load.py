"""Loading: the blocks of a pod, read to where they are verified, several at once, and put together."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engine.core.pinned_staging import ARENA_BYTES
from engine.kvcache.blocks.by_chunk import ChunkLoader
from engine.kvcache.blocks.by_layer import QuantizedLoader
from engine.kvcache.blocks.coded import CodedLoader
from engine.kvcache.exact import ExactPod, PodLoader
from engine.kvcache.quantized import QuantizedPod

MOST_THREADS = 16
"""More only wait for each other: for memory, and for Python's lock."""


Loader = PodLoader | QuantizedLoader | ChunkLoader | CodedLoader
"""What puts blocks together: of exact pods, of packed ones, of those that were packed while they were read, of coded
ones."""


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
