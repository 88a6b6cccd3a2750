"""Idle: whether anybody is at work with the model, so that work which can wait lets everybody else go first."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

QUIET_SECONDS = 2.0
"""So long nobody must have been at work: between two chunks or two documents there is less."""


class Idle:
    """Counts who is at work. Several threads may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._since = time.monotonic()
        self._closed = False

    @contextmanager
    def work(self) -> Iterator[None]:
        """Be at work for as long as the block lasts."""
        with self._changed:
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._since = time.monotonic()
                self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until nobody is or was at work just now; False where nobody should wait any longer."""
        with self._changed:
            while not self._closed:
                left = None if self._at_work else self._since + QUIET_SECONDS - time.monotonic()
                if left is not None and left <= 0:
                    return True
                self._changed.wait(left)
            return False

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
