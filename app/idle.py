"""Idle: who is at work with the model, so that reading makes way for questions, and what can wait for everybody."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

QUIET_SECONDS = 2.0
"""So long nobody must have been at work: between two chunks or two documents there is less."""
_LOOK_SECONDS = 0.2
"""How soon whoever makes way sees that it is no longer wanted."""


class Idle:
    """Counts who is at work. Several threads may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._questions = 0
        self._since = time.monotonic()
        self._closed = False
        self.over = threading.Event()
        """Set while somebody is at work on a question, and once nobody waits any longer: what can wait ends at once."""

    @contextmanager
    def work(self, questions: int = 0) -> Iterator[None]:
        """Be at work for as long as the block lasts, on a question or on none."""
        with self._changed:
            self._at_work += 1
            self._questions += questions
            self._tell()
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._questions -= questions
                self._tell()
                self._since = time.monotonic()
                self._changed.notify_all()

    def question(self) -> AbstractContextManager[None]:
        """Be at work on a question, which reading makes way for."""
        return self.work(questions=1)

    def make_way(self, stopped: Callable[[], bool]) -> None:
        """Wait until nobody is at work on a question, or until `stopped()`: between two chunks of reading."""
        with self._changed:
            while self._questions and not self._closed:
                self._changed.wait(_LOOK_SECONDS)
                if stopped():
                    return

    def wait(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Wait until nobody is or was at work just now, at most so long; False where it ends for another reason."""
        ends = time.monotonic() + seconds
        with self._changed:
            while not self._closed and (now := time.monotonic()) < ends:
                quiet = ends if self._at_work else self._since + QUIET_SECONDS
                if not self._at_work and quiet <= now:
                    return True
                self._changed.wait(min(quiet, ends) - now)
            return False

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._tell()
            self._changed.notify_all()

    def _tell(self) -> None:
        if self._questions or self._closed:
            self.over.set()
        else:
            self.over.clear()
