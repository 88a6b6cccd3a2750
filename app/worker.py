"""The worker: background threads that take documents from stage to stage, those with the least work left first."""

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from uuid import uuid4

from app.errors import AppError, Busy, LibraryAway, PasswordNeeded
from app.events import Progress
from app.log_file import NAME
from app.refusals import TOLD, as_app_error

log = logging.getLogger(__name__)

POLL_SECONDS = 15.0
"""Between two looks for work that another process left."""

SHORTER = 2.0
"""A document that is so many times shorter than what is left of another one is worked on before that goes on."""

Work = Generator[Progress]


@dataclass(frozen=True)
class Stage:
    """A step that every document takes: `work` by its id, until `stopped()`, and how much of each is `left`."""

    name: str
    work: Callable[[str, Callable[[], bool]], Work]
    left: Callable[[], Mapping[str, float]]
    threads: int = 1
    resumes: bool = False
    """Whether work that was begun goes on where it was, so that a shorter document may come in between."""


class Worker:
    """Takes each document through the stages; keeps the latest progress of what is being worked on.

    `look` is called every so often while the last stage has no work: it may find documents that wait for some. Those
    that `first` names go before all others, in its order.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        look: Callable[[], Iterable[str]],
        first: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._first, self._last = stages[0], stages[-1]
        self._next = dict(pairwise(stages))
        self._look = look
        self._go_first = first
        self._lock = threading.Condition()
        self._live: dict[str, Progress] = {}
        self._queued: dict[Stage, list[str]] = {each: [] for each in stages}
        self._busy: set[tuple[Stage, str]] = set()
        self._stops: set[str] = set()
        self._again: set[str] = set()
        """Those that failed while what keeps the library was away."""
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=stage.name, daemon=True)
            for stage in stages
            for _ in range(stage.threads)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def parse(self, document_id: str) -> None:
        """Queue a document for the first stage, and then for all others."""
        with self._lock:
            self._stops.discard(document_id)
            self._live.pop(document_id, None)
        self._put(self._first, document_id)

    def stop(self, document_id: str) -> None:
        """Have the work on a document end after its chunk or page."""
        with self._lock:
            self._stops.add(document_id)
            self._live.pop(document_id, None)
            for queued in self._queued.values():
                if document_id in queued:
                    queued.remove(document_id)

    def settle(self, document_id: str) -> None:
        """Wait until nobody works on a document."""
        with self._lock:
            self._lock.wait_for(lambda: not any(each == document_id for _, each in self._busy))

    def progress(self, document_id: str) -> Progress | None:
        """What is happening to a document, if anything is, or why it failed."""
        with self._lock:
            return self._live.get(document_id)

    def is_wanted(self) -> bool:
        """Whether something waits to be worked on, or all is to end."""
        return self._closed or any(self._queued.values())

    def close(self) -> None:
        """End the threads after the chunk at hand."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _stopped(self, document_id: str) -> Callable[[], bool]:
        return lambda: self._closed or document_id in self._stops

    def _put(self, stage: Stage, document_id: str) -> None:
        with self._lock:
            if document_id not in self._stops and document_id not in self._queued[stage]:
                self._queued[stage].append(document_id)
                self._lock.notify_all()

    def _run(self, stage: Stage) -> None:
        while (document_id := self._take(stage)) is not None:
            finished = False
            try:
                finished = self._follow(stage, document_id)
            except Busy as busy:
                log.info("%s is read elsewhere: %s", document_id[:12], busy)
                self._forget(document_id)
            except Exception as error:
                # The rim of the background: whatever went wrong with one document must not end the thread.
                if (known := as_app_error(error)) is None:
                    short_id = uuid4().hex[:6]
                    log.exception("%s of %s failed (%s)", stage.name, document_id[:12], short_id)
                    message = f"Something went wrong while {stage.name} this document (id {short_id})."
                    known = AppError(message, f"{NAME} in the home folder has the details.")
                if isinstance(known, LibraryAway):
                    self._again.add(document_id)
                state = "locked" if isinstance(known, PasswordNeeded) else "failed"
                self._show(Progress(document_id, state, message=known.message, hint=known.hint))
            finally:
                with self._lock:
                    self._busy.discard((stage, document_id))
                    self._lock.notify_all()
            if finished and stage in self._next:
                self._put(self._next[stage], document_id)

    def _take(self, stage: Stage) -> str | None:
        """The document with the least work left, as soon as there is one; None at the end."""

        def ready() -> list[str]:
            # Nobody works on one document twice at once.
            return [each for each in self._queued[stage] if (stage, each) not in self._busy]

        while not self._closed:
            try:
                in_turn = sorted(self._waiting(stage), key=self._turn(stage))
            except TOLD as error:
                log.warning("%s waits: %s", stage.name, error)
                with self._lock:
                    self._lock.wait_for(lambda: self._closed, POLL_SECONDS)
                continue
            with self._lock:
                for document_id in in_turn:
                    if document_id in ready():
                        self._queued[stage].remove(document_id)
                        self._busy.add((stage, document_id))
                        return document_id
                came = self._lock.wait_for(lambda: self._closed or ready(), POLL_SECONDS)
            if not came and stage is self._last:
                self._look_for_work()
        return None

    def _waiting(self, stage: Stage) -> list[str]:
        with self._lock:
            return list(self._queued[stage])

    def _look_for_work(self) -> None:
        try:
            while self._again:
                self._put(self._first, self._again.pop())
            for document_id in self._look():
                # Nobody here has failed with it; what was stopped is not queued.
                if self.progress(document_id) is None:
                    self._put(self._first, document_id)
        except Exception:
            # As above.
            log.exception("looking for work failed")

    def _follow(self, stage: Stage, document_id: str) -> bool:
        """Show each progress; False where the user stopped the work, or a shorter document goes first."""
        stopped = self._stopped(document_id)
        # Closed at once, so that what it holds is free before anybody hears that it ended.
        with closing(stage.work(document_id, stopped)) as work:
            for progress in work:
                if stopped():
                    return False
                self._show(progress)
                if stage.resumes and self._shorter_waits(stage, document_id):
                    self._put(stage, document_id)
                    self._forget(document_id)
                    return False
        self._forget(document_id)
        return not stopped()

    def _shorter_waits(self, stage: Stage, document_id: str) -> bool:
        others = [each for each in self._waiting(stage) if each != document_id]
        if not others:
            return False
        turn = self._turn(stage)
        (place, left), (own_place, own_left) = min(map(turn, others)), turn(document_id)
        return place < own_place or (place == own_place and SHORTER * left < own_left)

    def _turn(self, stage: Stage) -> Callable[[str], tuple[int, float]]:
        """What documents are ordered by: their place among those that go first, then how much is left of them."""
        places, left = {each: place for place, each in enumerate(self._go_first())}, stage.left()
        return lambda document_id: (places.get(document_id, len(places)), left.get(document_id, 0.0))

    def _forget(self, document_id: str) -> None:
        with self._lock:
            self._live.pop(document_id, None)

    def _show(self, progress: Progress) -> None:
        with self._lock:
            if progress.document_id not in self._stops:
                self._live[progress.document_id] = progress
