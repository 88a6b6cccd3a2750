"""The library: bytes come in, become pages, are read into memory in the background, and go when they are deleted."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalogue import Catalogue
from app.desk import Desk
from app.errors import AppError, Busy, DocumentNotFound
from app.events import DocumentEntry, Progress
from app.intake import Intake
from app.memory import TO_READ, Memory
from app.readers import page_image
from app.settings import Settings
from storage import Home, NotStored, Reading, ReadingState, Store

SAMPLE = Path(__file__).parent / "sample" / "sample.pdf"
ASK_FIRST_SECONDS = 20 * 60
"""A document that takes longer than this waits for the user's word before it is read."""


class Library:
    """Documents and what is happening to them. `memory` waits for the model, `at_hand` gives None until it is there.

    Most verbs return at once; the effect shows in the entries.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        memory: Callable[[], Memory],
        at_hand: Callable[[], Memory | None],
        settings: Settings,
    ) -> None:
        self._store = store
        self._home = home
        self._memory = memory
        self._at_hand = at_hand
        self._desk = Desk(self._parse_and_plan, self._read)
        self.intake = Intake(store, home, settings)
        self.catalogue = Catalogue(store, at_hand, self._desk.progress)

    def entries(self, search: str = "") -> list[DocumentEntry]:
        """The library, newest first."""
        return self.catalogue.entries(search)

    def entry(self, document_id: str) -> DocumentEntry:
        """One document. Raises DocumentNotFound."""
        return self.catalogue.entry(document_id)

    def add(self, path: Path, name: str) -> str:
        """Move a file into the library and have it parsed and read; returns its id. Known bytes are not read again.

        Raises UnsupportedFile, EmptyDocument, DocumentTooLarge or DiskFull; the file then stays where it is.
        """
        document = self.intake.keep(path, name, move=True)
        if self.entry(document.id).progress.stage not in ("ready", "paused", "waiting"):
            self.read(document.id)
        return document.id

    def unlock(self, document_id: str, password: str) -> None:
        """Open an encrypted document for good. Raises WrongPassword."""
        self.intake.unlock(self.catalogue.document(document_id), password)
        self._desk.parse(document_id)

    def read(self, document_id: str) -> None:
        """Read it, or go on reading it."""
        self.catalogue.document(document_id)
        self._set_state(document_id, "queued", only_from=("paused", "failed", "cancelled"))
        self._desk.parse(document_id)

    resume = read

    def pause(self, document_id: str) -> None:
        """Stop after the chunk that is being read; nothing read is lost."""
        self.catalogue.document(document_id)
        if self.catalogue.readings(document_id):
            self._desk.stop(document_id)
            self._set_state(document_id, "paused", only_from=TO_READ)

    def cancel(self, document_id: str) -> None:
        """Stop after the chunk or page at hand, and forget what was read of it so far."""
        document = self.catalogue.document(document_id)
        self._desk.stop(document_id)
        self._set_state(document_id, "cancelled", only_from=(*TO_READ, "paused", "failed"))
        self._desk.settle(document_id)
        readings = self.catalogue.readings(document_id)
        for reading in readings:
            if reading.state == "cancelled":
                self._forget(reading)
        if not self._store.readings(document_id):
            self.intake.reject(document, "Cancelled before it was read.", "It can still be read.")

    def delete(self, document_id: str) -> None:
        """Remove the document with its pages, memory and conversations from the database and the disk."""
        document = self.catalogue.document(document_id)
        self._desk.stop(document_id)
        self._desk.settle(document_id)
        if memory := self._at_hand():
            for reading in self._store.readings(document_id):
                memory.forget(reading.id)
        self.intake.forget(document)

    def page_image(self, document_id: str, number: int, width_px: int = 1100) -> bytes:
        """A picture of a page (1-based). Raises DocumentNotFound where there is no such page."""
        document = self.catalogue.document(document_id)
        if not 1 <= number <= document.num_pages:
            raise DocumentNotFound(f"There is no page {number}.", f"The document has {document.num_pages} pages.")
        path = self.intake.path(document)
        return page_image(path, document.media_type, number, width_px, limits=self.intake.limits)

    def sample(self) -> Path:
        """A copy of the sample document, ready to be added."""
        uploads = self._home.root / "uploads"
        uploads.mkdir(mode=0o700, exist_ok=True)
        return Path(shutil.copy(SAMPLE, tempfile.mkdtemp(dir=uploads)))

    def start(self) -> None:
        """Go on with whatever an earlier run had not finished, in the background."""
        self._desk.start()
        for document in reversed(self._store.documents()):
            if document.state != "rejected":
                self._desk.parse(document.id)

    def close(self) -> None:
        """Stop the background work after the chunk or page at hand."""
        self._desk.close()

    def plan(self, document_id: str) -> Reading:
        """The reading of a parsed document by the model at hand, planned if it is not yet."""
        return self._memory().plan(document_id)

    def read_here(self, document_id: str) -> Iterator[Progress]:
        """Read a parsed document in this thread, with progress. Raises Busy or DiskFull."""
        self.plan(document_id)
        self._set_state(document_id, "queued", only_from=("paused", "failed", "cancelled"))
        yield from self._read(document_id, lambda: False)

    def _parse_and_plan(self, document_id: str) -> Generator[Progress]:
        yield from self.intake.parse(self.catalogue.document(document_id))
        memory = self._memory()
        known = self._store.readings(document_id)
        reading = memory.plan(document_id)
        was_planned = reading.id in {each.id for each in known}
        # Another model's memory of it still serves that model; reading everything again is the user's decision.
        if not was_planned and (known or memory.forecast(reading).seconds > ASK_FIRST_SECONDS):
            self._store.set_reading_state(reading.id, "paused", only_from=TO_READ)

    def _read(self, document_id: str, stopped: Callable[[], bool]) -> Generator[Progress]:
        reading = self.plan(document_id)
        try:
            yield from self._memory().read(reading, stopped)
        except Busy:
            # The other process is at work on it, and what it does stands.
            raise
        except AppError as error:
            trouble = {"message": error.message, "hint": error.hint}
            with _unless_deleted():
                self._store.set_reading_state(reading.id, "failed", trouble, only_from=TO_READ)
            raise

    def _set_state(self, document_id: str, state: ReadingState, only_from: Collection[ReadingState]) -> None:
        with _unless_deleted():
            for reading in self.catalogue.readings(document_id):
                self._store.set_reading_state(reading.id, state, only_from=only_from)

    def _forget(self, reading: Reading) -> None:
        """Drop every block of a reading."""
        if memory := self._at_hand():
            memory.forget(reading.id)
        with _unless_deleted():
            for section in self._store.sections(reading.id):
                for name in self._store.drop_blocks(section.id):
                    (self._home.pods / name).unlink(missing_ok=True)


@contextmanager
def _unless_deleted() -> Iterator[None]:
    """Another tab or process may delete a document between any two steps here."""
    try:
        yield
    except NotStored as error:
        raise DocumentNotFound("This document was deleted meanwhile.", "Add it again to read it.") from error
