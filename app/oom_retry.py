"""OomRetry: what happens when memory runs short: room is made, work is cut smaller, and then the user is told."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from app.errors import OutOfMemory
from app.reader_model import Loaded
from engine.core.errors import OutOfMemory as Shortage
from engine.core.oom import translate_oom
from engine.kvcache.exact import PodBlock
from engine.runtime.prefill.builder import Builder

log = logging.getLogger(__name__)

LEAST_TOKENS = 128
"""Chunks are not cut smaller than this."""

Done = TypeVar("Done")


class OomRetry:
    """Does work that may need more memory than is free; first to go are the pods that are only kept for later."""

    def __init__(self, loaded: Loaded) -> None:
        self._device = loaded.runner.model.device
        self._tiers = loaded.tiers
        self._idle = loaded.idle

    def run(self, work: Callable[[], Done]) -> Done:
        """The work, and where memory is short once more with all that can be spared. Raises OutOfMemory."""
        with self._idle.work():
            try:
                with translate_oom(self._device):
                    return work()
            except Shortage as shortage:
                self._make_room(shortage)
            with self._said():
                return work()

    def begin(self, builder: Builder, ids: Sequence[int], size: int) -> tuple[Callable[[], PodBlock], int]:
        """Begin to read the next chunk of about `size` tokens, or a smaller one; also the size that went well.

        Raises OutOfMemory where even the smallest does not fit.
        """
        first = builder.num_read
        while True:
            try:
                return self.run(partial(builder.begin, ids[first : builder.cut(size)])), size
            except OutOfMemory:
                if size <= LEAST_TOKENS:
                    raise
                size = max(LEAST_TOKENS, size // 2)
                log.warning("memory is short: reading goes on in chunks of %d tokens", size)

    def resumed(self, begin: Callable[[Done | None], Iterator[Done]], known: Done | None) -> Iterator[Done]:
        """Every step of work that can go on from any of them. Raises OutOfMemory."""
        work = begin(known)
        while True:
            with self._idle.work():
                try:
                    with translate_oom(self._device):
                        step = next(work, None)
                except Shortage as shortage:
                    self._make_room(shortage)
                    work = begin(known)
                    with self._said():
                        step = next(work, None)
            if step is None:
                return
            yield step
            known = step

    def begun(self, begin: Callable[[], Iterator[Done]]) -> Iterator[Done]:
        """Every step of work that begins anew if its first step finds memory short. Raises OutOfMemory."""

        def start() -> tuple[Iterator[Done], Done | None]:
            work = begin()
            return work, next(work, None)

        with self._idle.work():
            work, step = self.run(start)
            while step is not None:
                yield step
                with self._said():
                    step = next(work, None)

    def _make_room(self, shortage: Shortage) -> None:
        freed = self._tiers.relieve()
        log.warning("%s; %.2f GB of kept pods make room", shortage, freed / 1e9)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            with translate_oom(self._device):
                yield
        except Shortage as shortage:
            raise OutOfMemory(shortage.needed_bytes, shortage.free_bytes) from shortage
