"""The library: bytes come in, become pages, are read into memory in the background, and go when they are deleted."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path

from app.catalogue import Catalogue
from app.errors import AppError, Busy, DocumentNotFound, RecipeNotThere
from app.events import DocumentEntry, PresetState, Progress
from app.intake import Intake, unless_deleted
from app.memory import TO_READ, Memory
from app.presets import Presets
from app.readers import page_image
from app.settings import Settings
from app.worker import Worker
from storage import Home, Reading, ReadingState, Store

SAMPLE = Path(__file__).parent / "sample" / "sample.pdf"
PAUSED: tuple[ReadingState, ...] = ("paused", "failed", "cancelled")
"""States of a reading that goes on when its user says so."""
ASK_FIRST_SECONDS = 20 * 60
"""A document that takes longer than this waits for the user's word before it is read."""
_STEP_SECONDS = 0.2
"""How soon waiting for the model ends where it is no longer wanted."""

log = logging.getLogger(__name__)


class Library:
    """Documents and what is happening to them.

    `memory` waits for the model, `at_hand` gives None until it is there, and `model_settled` waits for at most so many
    seconds and tells whether it is there or failed.

    Most verbs return at once; the effect shows in the entries.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        memory: Callable[[], Memory],
        at_hand: Callable[[], Memory | None],
        model_settled: Callable[[float], bool],
        presets: Presets,
        settings: Settings,
    ) -> None:
        self._store = store
        self._home = home
        self._memory = memory
        self._at_hand = at_hand
        self._model_settled = model_settled
        self._presets = presets
        self._given = settings.recipe
        self._worker = Worker(self._parse_and_plan, self._read_and_replace, self._take_up)
        self.intake = Intake(store, home, settings)
        self.catalogue = Catalogue(store, at_hand, presets, self._worker.progress)

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
        self._worker.parse(document_id)

    def read(self, document_id: str) -> None:
        """Read it, or go on reading it."""
        self.catalogue.document(document_id)
        self._set_state(document_id, "queued", only_from=PAUSED)
        self._worker.parse(document_id)

    resume = read

    def pause(self, document_id: str) -> None:
        """Stop after the chunk that is being read; nothing read is lost."""
        self.catalogue.document(document_id)
        if self.catalogue.readings(document_id):
            self._worker.stop(document_id)
            self._set_state(document_id, "paused", only_from=TO_READ)

    def cancel(self, document_id: str) -> None:
        """Stop after the chunk or page at hand, and forget what was read of it so far.

        Where another recipe's memory answers meanwhile, the document stays kept by that one.
        """
        document = self.catalogue.document(document_id)
        self._worker.stop(document_id)
        if self._stay_as_it_was(document_id):
            return
        self._set_state(document_id, "cancelled", only_from=(*TO_READ, "paused", "failed"))
        self._worker.settle(document_id)
        # Again, because it may have been planned since.
        self._set_state(document_id, "cancelled", only_from=(*TO_READ, "paused", "failed"))
        for reading in self.catalogue.readings(document_id):
            if reading.state == "cancelled":
                self._forget(reading)
        if not self._store.readings(document_id):
            self.intake.reject(document, "Cancelled before it was read.", "It can still be read.")

    def delete(self, document_id: str) -> None:
        """Remove the document with its pages, memory and conversations from the database and the disk."""
        document = self.catalogue.document(document_id)
        self._worker.stop(document_id)
        self._worker.settle(document_id)
        if memory := self._at_hand():
            for reading in self._store.readings(document_id):
                memory.forget(reading.id)
        self.intake.forget(document)

    def presets(self, document_id: str) -> PresetState | None:
        """How a document is kept, and how it could be; None until the model is there and the document is parsed."""
        memory = self._at_hand()
        return self._presets.state(memory, document_id) if memory else None

    def choose(self, document_id: str, recipe: str) -> None:
        """Keep a document by another recipe from now on, and new documents too.

        The memory that there is answers until the new one is ready. Raises RecipeNotThere.
        """
        self.catalogue.document(document_id)
        memory = self._memory()
        before, serving = self._plan(document_id), self._presets.serving(memory, document_id)
        if why_not := memory.recipes.why_not(recipe):
            raise RecipeNotThere(why_not, "The document stays as it is kept now.")
        self._worker.stop(document_id)
        self._worker.settle(document_id)
        with unless_deleted():
            self._presets.choose(document_id, recipe)
            reading = self._plan(document_id)
            # Whoever did not want it read, or was not asked yet, is asked again, with the new figures.
            waits = before.state in PAUSED and (serving is None or serving.state != "ready")
            self._store.set_reading_state(reading.id, "paused" if waits else "queued", only_from=(*TO_READ, *PAUSED))
        self._drop_replaced(reading)
        self._worker.parse(document_id)

    def drop(self, document_id: str, recipe: str) -> None:
        """Remove a memory that is kept beside the chosen one. Raises Busy while that one is not ready."""
        self.catalogue.document(document_id)
        state = self.presets(document_id)
        if state is None or not state.ready or recipe == state.chosen:
            raise Busy("The chosen memory is still being made.", "Remove the other one once it is ready.")
        if other := self._memory().find(document_id, recipe):
            self._delete(other)

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
        self._worker.start()
        for document in reversed(self._store.documents()):
            if document.state != "rejected":
                self._worker.parse(document.id)

    def close(self) -> None:
        """Stop the background work after the chunk or page at hand."""
        self._worker.close()

    def plan(self, document_id: str) -> Reading:
        """The reading of a parsed document by the model at hand, planned if it is not yet.

        A recipe that was given at the start is the document's from now on.
        """
        if self._given:
            with unless_deleted():
                self._store.choose_recipe(document_id, self._given)
        return self._plan(document_id)

    def read_here(self, document_id: str) -> Iterator[Progress]:
        """Read a parsed document in this thread, with progress. Raises Busy or DiskFull."""
        self.plan(document_id)
        self._set_state(document_id, "queued", only_from=PAUSED)
        yield from self._read(document_id, lambda: False)

    def _parse_and_plan(self, document_id: str) -> Generator[Progress]:
        yield from self.intake.parse(self.catalogue.document(document_id))
        while not self._model_settled(_STEP_SECONDS):
            # Whoever deletes it meanwhile need not wait for the model.
            yield Progress(document_id, "queued")
        memory = self._memory()
        known = self._store.readings(document_id)
        reading = self._plan(document_id)
        was_planned = reading.id in {each.id for each in known}
        # Another model's memory of it still serves that model; reading everything again is the user's decision.
        if not was_planned and (known or memory.forecast(reading).seconds > ASK_FIRST_SECONDS):
            self._store.set_reading_state(reading.id, "paused", only_from=TO_READ)

    def _take_up(self) -> None:
        """Go on with what another process left: it ended while it read, or found damage and does not read."""
        if (memory := self._at_hand()) is None:
            return
        for reading in [each for state in TO_READ for each in self._store.readings(state=state)]:
            current = self._presets.current(memory, reading.document_id)
            if current and current.id == reading.id:
                self._worker.take_up(reading.document_id)

    def _read(self, document_id: str, stopped: Callable[[], bool]) -> Generator[Progress]:
        reading = self._plan(document_id)
        try:
            yield from self._memory().read(reading, stopped)
        except Busy:
            # The other process is at work on it, and what it does stands.
            raise
        except AppError as error:
            trouble = {"message": error.message, "hint": error.hint}
            with unless_deleted():
                self._store.set_reading_state(reading.id, "failed", trouble, only_from=TO_READ)
            raise

    def _read_and_replace(self, document_id: str, stopped: Callable[[], bool]) -> Generator[Progress]:
        """Read it; what is ready then takes the place of what answered meanwhile."""
        before = self._plan(document_id)
        try:
            yield from self._read(document_id, stopped)
        except Busy as busy:
            log.info("%s is read elsewhere: %s", document_id[:12], busy)
        if before.state != "ready" and not stopped():
            self._drop_replaced(before)

    def _plan(self, document_id: str) -> Reading:
        memory = self._memory()
        return memory.plan(document_id, self._presets.chosen(memory, document_id))

    def _stay_as_it_was(self, document_id: str) -> bool:
        """Go back to the recipe whose memory is there, if another one is being made."""
        memory = self._at_hand()
        serving = self._presets.serving(memory, document_id) if memory else None
        made = self._plan(document_id) if serving and serving.state == "ready" else None
        if serving is None or made is None or made.id == serving.id or made.state == "ready":
            return False
        self._worker.settle(document_id)
        with unless_deleted():
            self._store.choose_recipe(document_id, serving.recipe)
        self._delete(made)
        return True

    def _drop_replaced(self, reading: Reading) -> None:
        """Remove what a reading takes the place of, once it is ready; a whole exact memory stays beside it.

        While it is not, only what holds nothing is removed; and nothing, where another recipe was chosen meanwhile.
        """
        memory = self._memory()
        current = self._presets.current(memory, reading.document_id)
        if current is None or current.id != reading.id:
            return
        ready = current.state == "ready"
        for other in memory.readings(reading.document_id):
            if other.id != reading.id and not memory.is_whole_and_exact(other) and (ready or not other.num_bytes):
                self._delete(other)

    def _delete(self, reading: Reading) -> None:
        """Forget a reading with its blocks."""
        self._memory().forget(reading.id)
        for name in self._store.delete_reading(reading.id):
            (self._home.pods / name).unlink(missing_ok=True)

    def _set_state(self, document_id: str, state: ReadingState, only_from: Collection[ReadingState]) -> None:
        with unless_deleted():
            for reading in self.catalogue.readings(document_id):
                self._store.set_reading_state(reading.id, state, only_from=only_from)

    def _forget(self, reading: Reading) -> None:
        """Drop every block of a reading."""
        if memory := self._at_hand():
            memory.forget(reading.id)
        with unless_deleted():
            for section in self._store.sections(reading.id):
                for name in self._store.drop_blocks(section.id):
                    (self._home.pods / name).unlink(missing_ok=True)
