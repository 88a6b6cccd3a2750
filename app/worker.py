"""The worker: two background threads, one that parses documents and one that reads them, in the order they came."""

import logging
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from uuid import uuid4

from app.errors import AppError, Busy, PasswordNeeded
from app.events import Progress
from app.log_file import NAME

log = logging.getLogger(__name__)

POLL_SECONDS = 15.0
"""Between two looks for work that another process left."""

Work = Generator[Progress]
Parse = Callable[[str], Work]
Read = Callable[[str, Callable[[], bool]], Work]


class Worker:
    """Runs `parse`, then `read`, for each document; keeps the latest progress of what is being worked on.

    `look` is called every so often while nothing is read: it may find documents that wait for work.
    """

    def __init__(self, parse: Parse, read: Read, look: Callable[[], Iterable[str]]) -> None:
        self._work: dict[str, Parse] = {"parsing": parse, "reading": lambda each: read(each, self._stopped(each))}
        self._look = look
        self._queues: dict[str, queue.SimpleQueue[str | None]] = {each: queue.SimpleQueue() for each in self._work}
        self._lock = threading.Condition()
        self._live: dict[str, Progress] = {}
        self._queued: set[tuple[str, str]] = set()
        self._busy: set[tuple[str, str]] = set()
        self._stops: set[str] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(stage,), name=stage, daemon=True) for stage in self._work
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def parse(self, document_id: str) -> None:
        """Queue a document; it is read once it is parsed."""
        with self._lock:
            self._stops.discard(document_id)
            self._live.pop(document_id, None)
        self._put("parsing", document_id)

    def stop(self, document_id: str) -> None:
        """Have the work on a document end after its chunk or page."""
        with self._lock:
            self._stops.add(document_id)
            self._live.pop(document_id, None)

    def settle(self, document_id: str) -> None:
        """Wait until nobody works on a document."""
        with self._lock:
            self._lock.wait_for(lambda: not any(each == document_id for _, each in self._busy))

    def progress(self, document_id: str) -> Progress | None:
        """What is happening to a document, if anything is, or why it failed."""
        with self._lock:
            return self._live.get(document_id)

    def close(self) -> None:
        """End the threads after the chunk at hand."""
        self._closed = True
        for each in self._queues.values():
            each.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _stopped(self, document_id: str) -> Callable[[], bool]:
        return lambda: self._closed or document_id in self._stops

    def _put(self, stage: str, document_id: str) -> None:
        with self._lock:
            if (stage, document_id) in self._queued:
                return
            self._queued.add((stage, document_id))
        self._queues[stage].put(document_id)

    def _run(self, stage: str) -> None:
        while (document_id := self._next(stage)) is not None:
            with self._lock:
                self._queued.discard((stage, document_id))
                if self._closed or document_id in self._stops:
                    continue
                self._busy.add((stage, document_id))
            finished = False
            try:
                finished = self._follow(self._work[stage](document_id), document_id)
            except PasswordNeeded as error:
                self._show(Progress(document_id, "locked", message=error.message, hint=error.hint))
            except Busy as busy:
                log.info("%s is read elsewhere: %s", document_id[:12], busy)
                self._forget(document_id)
            except AppError as error:
                self._show(Progress(document_id, "failed", message=error.message, hint=error.hint))
            except Exception:
                # The rim of the background: whatever went wrong with one document must not end the thread.
                short_id = uuid4().hex[:6]
                log.exception("%s of %s failed (%s)", stage, document_id[:12], short_id)
                message = f"Something went wrong while {stage} this document (id {short_id})."
                self._show(
                    Progress(document_id, "failed", message=message, hint=f"{NAME} in the home folder has the details.")
                )
            finally:
                with self._lock:
                    self._busy.discard((stage, document_id))
                    self._lock.notify_all()
            if finished and stage == "parsing":
                self._put("reading", document_id)

    def _next(self, stage: str) -> str | None:
        """The next document; None at the end."""
        while True:
            try:
                return self._queues[stage].get(timeout=POLL_SECONDS if stage == "reading" else None)
            except queue.Empty:
                try:
                    for document_id in self._look():
                        self._take_up(document_id)
                except Exception:
                    # As below.
                    log.exception("looking for work failed")

    def _take_up(self, document_id: str) -> None:
        """Queue a document that nobody here has stopped or failed with."""
        with self._lock:
            if document_id in self._stops or document_id in self._live:
                return
        self._put("parsing", document_id)

    def _follow(self, work: Work, document_id: str) -> bool:
        """Show each progress; False where the user stopped the work."""
        stopped = self._stopped(document_id)
        # Closed at once, so that what it holds is free before anybody hears that it ended.
        with closing(work):
            for progress in work:
                if stopped():
                    return False
                self._show(progress)
        self._forget(document_id)
        return not stopped()

    def _forget(self, document_id: str) -> None:
        with self._lock:
            self._live.pop(document_id, None)

    def _show(self, progress: Progress) -> None:
        with self._lock:
            if progress.document_id not in self._stops:
                self._live[progress.document_id] = progress
