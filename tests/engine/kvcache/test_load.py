"""Loading: blocks are read at once as far as there is room for them, and the first failure ends it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from engine.core.pinned_staging import ARENA_BYTES
from engine.kvcache.blocks.load import Source, load
from engine.kvcache.exact import Pod

EMPTY = Pod(torch.zeros(0), torch.zeros(0), torch.zeros(0), 0)


class Counting:
    """A loader that remembers what it got, and how many rooms were taken at once."""

    def __init__(self) -> None:
        self.added: list[Any] = []
        self.most = self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def room(self, num_bytes: int) -> Iterator[memoryview]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        yield memoryview(bytearray(8))
        with self._lock:
            self._now -= 1

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        self.added.append(meta["number"])

    def finish(self) -> Pod:
        return EMPTY


def sources(sizes: list[int], threads_seen: list[int]) -> list[Source]:
    def read(number: int, buffer: memoryview, threads: int) -> tuple[Mapping[str, Any], memoryview]:
        threads_seen.append(threads)
        return {"number": number}, buffer

    return [Source(size, lambda *args, n=n: read(n, *args)) for n, size in enumerate(sizes)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sizes", "threads", "at_once", "each"),
    [
        ([8 << 20] * 150, 16, 16, 1),
        ([ARENA_BYTES // 3] * 9, 16, 3, 5),
        ([ARENA_BYTES // 3] * 9, 2, 2, 1),
        ([ARENA_BYTES * 2], 16, 1, 16),
        ([100, 0], 8, 2, 4),
    ],
)
def test_threads_are_shared_among_the_blocks_that_there_is_room_for(
    sizes: list[int], threads: int, at_once: int, each: int
) -> None:
    loader, seen = Counting(), list[int]()
    assert load(loader, sources(sizes, seen), threads) is EMPTY
    assert sorted(loader.added) == list(range(len(sizes)))
    assert loader.most <= at_once and set(seen) == {each}


def test_the_first_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loader, seen = Counting(), list[int]()
    good = sources([8] * 100, seen)
    add = loader.add

    def slow(meta: Mapping[str, Any], payload: memoryview) -> None:
        """All of them take a second, within which the failure is certainly heard of."""
        time.sleep(0.01)
        add(meta, payload)

    monkeypatch.setattr(loader, "add", slow)

    def bad(buffer: memoryview, threads: int) -> tuple[Mapping[str, Any], memoryview]:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        load(loader, [Source(8, bad), *good], 1)
    assert len(loader.added) < 100
