"""Ingest: the one way from a file in the library to pods, for the background and for whoever waits for it."""

from collections.abc import Callable, Generator, Iterator

from app.document_reader import TO_READ
from app.errors import AppError, Busy, LibraryAway
from app.events import Progress
from app.intake import Intake, storing
from app.model_handle import ModelHandle
from app.retention import Retention
from app.scans import Scans
from app.settings import Settings
from storage import Store

ASK_FIRST_SECONDS = 20 * 60
"""A document that takes longer than this waits for the user's word before it is read."""
_STEP_SECONDS = 0.2
"""How soon waiting for the model ends where it is no longer wanted."""


class Ingest:
    """Parses, plans and reads documents. One that was deleted meanwhile is nothing to do."""

    def __init__(
        self, store: Store, model: ModelHandle, intake: Intake, retention: Retention, settings: Settings
    ) -> None:
        self._store = store
        self._model = model
        self._intake = intake
        self._retention = retention
        self._settings = settings
        self._scans = Scans(store, intake, settings)
        self._to_recognise: set[str] = set()

    def want_ocr(self, document_id: str) -> None:
        """Have pages without text read by OCR when it is the document's turn, though it is read already."""
        self._to_recognise.add(document_id)

    def parse(self, document_id: str) -> Generator[Progress]:
        """Make pages of a document's bytes. Raises what `Intake.parse` raises."""
        if (document := self._store.document(document_id)) is not None:
            yield from self._intake.parse(document)

    def recognise(self, document_id: str) -> Generator[Progress]:
        """Read pages without text by OCR, where the document is not planned yet or its user wants it."""
        readings = self._store.readings(document_id)
        document = self._store.document(document_id)
        wanted = document_id in self._to_recognise or (self._settings.ocr and not readings)
        if document is None or not wanted:
            return
        found = yield from self._scans.read(document)
        self._to_recognise.discard(document_id)
        # What was read before lacks the words that were found now.
        for reading in readings if found else ():
            self._retention.delete(reading)

    def plan(self, document_id: str) -> Generator[Progress]:
        """Plan how its pages are read, once the model is there. Raises ModelUnavailable, and EmptyDocument where no
        page has text.
        """
        self._scans.refuse_silent(document_id)
        while not self._model.settled(_STEP_SECONDS):
            # Whoever deletes it meanwhile need not wait for the model.
            yield Progress(document_id, "queued")
        engine = self._model.wait()
        if self._store.document(document_id) is None:
            return
        known = self._store.readings(document_id)
        with storing():
            reading = engine.presets.plan(document_id)
            engine.reader.adopt(reading)
        was_planned = reading.id in {each.id for each in known}
        # Another model's pods of it still serve that model; reading everything again is the user's decision.
        if not was_planned and (
            known or engine.planner.seconds((), reading.recipe, reading.num_tokens) > ASK_FIRST_SECONDS
        ):
            self._store.set_reading_state(reading.id, "paused", only_from=TO_READ)

    def read(self, document_id: str, stopped: Callable[[], bool] = lambda: False) -> Generator[Progress]:
        """Read it as it is planned. Raises Busy where another process does, DiskFull and OutOfMemory."""
        engine = self._model.wait()
        if (reading := engine.presets.current(document_id)) is None:
            return
        try:
            yield from engine.reader.read(reading, stopped)
        except (Busy, LibraryAway):
            # The other process is at work on it, and what it does stands; and what is away comes back.
            raise
        except AppError as error:
            trouble = {"message": error.message, "hint": error.hint}
            with storing():
                self._store.set_reading_state(reading.id, "failed", trouble, only_from=TO_READ)
            raise

    def read_and_replace(self, document_id: str, stopped: Callable[[], bool]) -> Generator[Progress]:
        """Read it; what is ready then takes the place of what answered meanwhile."""
        before = self._model.wait().presets.current(document_id)
        yield from self.read(document_id, stopped)
        if before and before.state != "ready" and not stopped():
            self._retention.drop_replaced(before)

    def left(self) -> dict[str, float]:
        """How many tokens of each document are to be read."""
        engine, left = self._model.peek(), {}
        for known in self._store.shelf() if engine else ():
            if engine and (reading := engine.presets.of(known)[0]):
                read = sum(each.tokens_read for each in known.sections[reading.id])
                left[known.document.id] = float(reading.num_tokens - read)
        return left

    def unfinished(self) -> Iterator[str]:
        """What another process left: it ended while it read, or found damage and does not read."""
        if (engine := self._model.peek()) is None:
            return
        for reading in [each for state in TO_READ for each in self._store.readings(state=state)]:
            current = engine.presets.current(reading.document_id)
            if current and current.id == reading.id:
                yield reading.document_id
