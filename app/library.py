"""The library: bytes come in, become pages, are read in the background, and go when they are deleted."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from functools import cache
from pathlib import Path
from typing import BinaryIO

from app.catalogue import Catalogue
from app.document_reader import TO_READ
from app.errors import AppError, Busy, DocumentNotFound, RecipeNotThere, UnsupportedFile
from app.events import Answer, PresetState, Progress
from app.guide import Guides
from app.ingest import Ingest
from app.intake import DELETED, Intake, storing
from app.meaning import Meaning
from app.model_handle import ModelHandle
from app.portable import is_portable
from app.queue import Queue
from app.readers import Mark, by_media_type, highlight, page_image, typeset_image
from app.recoding import Recoding
from app.retention import Retention
from app.scans import INSTALL, ocr_installed
from app.settings import Settings
from app.titles import name_of
from app.transfer import Transfer
from app.worker import Stage, Worker
from engine.compression.basis_fit import SAMPLES_SUFFIX
from storage import Document, Home, Reading, ReadingState, Store

SAMPLE = Path(__file__).parent / "sample" / "sample.pdf"
PAUSED: tuple[ReadingState, ...] = ("paused", "failed", "cancelled")
"""States of a reading that goes on when its user says so."""
_AT_REPLICAS = 8
"""Readings at once, where replicas do the work: they queue there."""


class Library:
    """What a user does with documents. Most verbs return at once; the effect shows in the entries of the catalogue."""

    def __init__(self, store: Store, home: Home, model: ModelHandle, settings: Settings, meaning: Meaning) -> None:
        self._store = store
        self._meaning = meaning
        self._home = home
        self._model = model
        self._given = settings.recipe
        self.intake = Intake(store, home, settings)
        self._transfer = Transfer(store, home, self.intake)
        self._retention = Retention(store, home, model)
        self.ingest = Ingest(store, model, self.intake, self._retention, settings)
        ingest, at_once = self.ingest, _AT_REPLICAS if settings.cluster else 1
        stages = (
            # Two at once, so that a short file does not wait for the pages of a long one.
            Stage("parsing", lambda each, _: ingest.parse(each), self._num_bytes, threads=2),
            Stage("recognising", lambda each, _: ingest.recognise(each), self._num_bytes),
            Stage("planning", lambda each, _: ingest.plan(each), self._num_bytes),
            Stage("reading", ingest.read_and_replace, ingest.left, threads=at_once, resumes=True),
        )
        self._worker = Worker(stages, self._look, lambda: self.queue.first())
        self.catalogue = Catalogue(store, model, self._worker, settings)
        self._guides = Guides(store, model, settings)
        self.queue = Queue(store, self.catalogue)
        self._recoding = Recoding(store, model, self._retention)
        self.at_rest: Callable[[], None] = lambda: None
        """Called now and then while nothing is to be read."""

    def seen_by(self, store: Store) -> "Library":
        """The library of the viewer of that store."""
        seen = copy(self)
        seen._store, seen.catalogue, seen.intake = store, self.catalogue.seen_by(store), self.intake.seen_by(store)
        seen._transfer = Transfer(store, self._home, seen.intake)
        return seen

    def add(self, path: Path, name: str, move: bool = True) -> str:
        """Put a file into the library and have it parsed and read; returns its id. Known bytes are not read again.

        With `move` the file is gone from where it was. Raises UnsupportedFile, EmptyDocument, DocumentTooLarge or
        DiskFull; it then stays where it is. An archive of `export` is imported.
        """
        if is_portable(path):
            with self._folder() as folder:
                document = self._transfer.take(path, Path(folder))
            if move:
                path.unlink()
        else:
            document = self.intake.keep(path, name, move)
        if self.catalogue.entry(document.id).progress.stage not in ("ready", "paused", "waiting"):
            self.read(document.id)
        elif (self._home.imports / document.id).exists():
            self._worker.parse(document.id)
        return document.id

    def receive(self, file: BinaryIO, name: str) -> str:
        """Add what comes as bytes. Raises as `add` does."""
        with self._folder() as folder:
            path = Path(folder, "received")
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            return self.add(path, name)

    def add_attachment(self, document_id: str, number: int) -> str:
        """Add a file that is attached to a document as one of its own, by its 1-based number; returns its id.

        Raises DocumentNotFound, DamagedDocument, and as `add` does.
        """
        document = self.catalogue.document(document_id)
        with self._folder() as folder:
            path = Path(folder, "attached")
            return self.add(path, self.intake.extract(document, number, path))

    def unlock(self, document_id: str, password: str) -> None:
        """Open an encrypted document for good. Raises WrongPassword."""
        self.intake.unlock(self.catalogue.document(document_id), password)
        self._worker.parse(document_id)

    def read(self, document_id: str) -> None:
        """Read it, or go on reading it."""
        self.catalogue.document(document_id)
        self._set_state(document_id, "queued", only_from=PAUSED)
        self._worker.parse(document_id)

    def recognise(self, document_id: str) -> None:
        """Read its pages without text by OCR; where words are found, the whole document is read anew with them.

        Raises UnsupportedFile where OCR is not installed.
        """
        self.catalogue.document(document_id)
        if not ocr_installed():
            raise UnsupportedFile("OCR is not installed.", f"Install it, then start again: {INSTALL}")
        self._worker.stop(document_id)
        self._worker.settle(document_id)
        self.ingest.want_ocr(document_id)
        self._worker.parse(document_id)

    def wait(self, document_id: str) -> Iterator[Progress]:
        """Parse and read it in this thread, with progress; what was begun goes on, and what is ready takes no time.

        A recipe that was given at the start is the document's from now on, beside what is kept already. Raises what can
        be wrong with the file, ModelUnavailable, Busy, DiskFull and OutOfMemory.
        """
        self.catalogue.document(document_id)
        if self._given:
            with storing():
                self._store.choose_recipe(document_id, self._given)
        yield from self.ingest.parse(document_id)
        yield from self.ingest.recognise(document_id)
        self._meaning.complete(document_id)
        yield from self.ingest.plan(document_id)
        self._set_state(document_id, "queued", only_from=PAUSED)
        yield from self.ingest.read(document_id)

    def pause(self, document_id: str) -> None:
        """Stop after the chunk that is being read; nothing read is lost."""
        self.catalogue.document(document_id)
        if self.catalogue.readings(document_id):
            self._worker.stop(document_id)
            self._set_state(document_id, "paused", only_from=TO_READ)

    def cancel(self, document_id: str) -> None:
        """Stop after the chunk or page at hand, and forget what was read of it so far.

        Where another recipe's pods answer meanwhile, the document stays kept by that one.
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
                self._retention.empty(reading)
        if not self._store.readings(document_id):
            self.intake.reject(document, "Cancelled before it was read.", "It can still be read.")

    def delete(self, document_id: str) -> None:
        """Remove the document with its pages, pods and conversations from the database and the disk."""
        document = self.catalogue.document(document_id)
        self._worker.stop(document_id)
        self._worker.settle(document_id)
        for reading in self._store.readings(document_id):
            self._retention.release(reading)
        self.intake.forget(document)
        # Of a sample for a reader's basis nobody can tell which document it is of.
        for folder in (self._home.imports / document.id, *self._home.models.glob(f"*{SAMPLES_SUFFIX}")):
            shutil.rmtree(folder, ignore_errors=True)

    def export(self, document_id: str, out: Path) -> None:
        """As `Transfer.export`. Raises DocumentNotFound, too."""
        self._transfer.export(self.catalogue.document(document_id), out)

    def archive(self, document_id: str) -> Path:
        """As `export`, into a new folder that is to be removed with it."""
        out = Path(tempfile.mkdtemp(dir=self._home.uploads), "archive")
        try:
            self.export(document_id, out)
        except AppError:
            out.parent.rmdir()
            raise
        return out

    def rename(self, document_id: str, title: str) -> None:
        """Call a document so from now on. Raises BadName."""
        self.catalogue.document(document_id)
        with storing():
            self._store.rename_document(document_id, name_of(title))

    def rest(self) -> None:
        """End what is done with the model, after the chunk at hand, until `replan`."""
        for document in self._parsed():
            self._worker.stop(document.id)

    def replan(self) -> None:
        """Have everything planned by the model that there is now, in the background; what another one read is kept."""
        for document in self._parsed():
            self._worker.stop(document.id)
            self._worker.settle(document.id)
            self._worker.parse(document.id)

    def forget_reader(self, model_name: str) -> int:
        """Delete all that a model of this name has read; how many bytes that was."""
        readings = [each for each in self._store.readings() if each.model_name == model_name]
        for reading in readings:
            self._retention.delete(reading)
        return sum(each.num_bytes for each in readings)

    def empty(self, reading: Reading) -> None:
        """Have a reading made again from the text."""
        self._retention.empty(reading)

    def presets(self, document_id: str) -> PresetState | None:
        """How a document is kept, and how it could be; None until the model is there and the document is parsed, and
        for those who are not asked, since what is chosen is for further documents too."""
        engine = self._model.peek() if self._store.viewer.has_all else None
        return engine.presets.state(document_id) if engine else None

    def choose(self, document_id: str, recipe: str) -> None:
        """Keep a document by another recipe from now on, and new documents too.

        The pods that there are answer until the new ones are ready. Raises RecipeNotThere.
        """
        self.catalogue.document(document_id)
        engine = self._model.wait()
        presets = engine.presets
        before, serving = presets.plan(document_id), presets.serving(document_id)
        if why_not := engine.loaded.recipes.why_not(recipe):
            raise RecipeNotThere(why_not, "The document stays as it is kept now.")
        self._worker.stop(document_id)
        self._worker.settle(document_id)
        with storing():
            presets.choose(document_id, recipe)
            reading = presets.plan(document_id)
            # Whoever did not want it read, or was not asked yet, is asked again, with the new figures.
            waits = before.state in PAUSED and (serving is None or serving.state != "ready")
            self._store.set_reading_state(reading.id, "paused" if waits else "queued", only_from=(*TO_READ, *PAUSED))
        self._retention.drop_replaced(reading)
        self._worker.parse(document_id)

    def drop(self, document_id: str, recipe: str) -> None:
        """Remove pods that are kept beside the chosen ones. Raises Busy while those are not ready."""
        self.catalogue.document(document_id)
        state = self.presets(document_id)
        if state is None or not state.ready or recipe == state.chosen:
            raise Busy("The chosen memory is still being made.", "Remove the other one once it is ready.")
        if other := self._model.wait().planner.find(document_id, recipe):
            self._retention.delete(other)

    def page_image(self, document_id: str, number: int, width_px: int = 1100) -> bytes:
        """A picture of a page (1-based). Raises DocumentNotFound where there is no such page."""
        document = self.catalogue.document(document_id)
        if not 1 <= number <= document.num_pages:
            raise DocumentNotFound(f"There is no page {number}.", f"The document has {document.num_pages} pages.")
        limits = self.intake.limits
        if by_media_type(document.media_type).typeset:
            if (page := self._store.page(document_id, number)) is None:
                raise DocumentNotFound(*DELETED)
            return typeset_image(page.text, width_px, limits)
        with self.intake.opened(document) as path:
            return page_image(path, document.media_type, number, width_px, limits)

    def highlighted(self, document_id: str, marks: Sequence[Mark]) -> bytes:
        """A copy of a PDF with highlight annotations. Raises UnsupportedFile for what is none, and DamagedDocument."""
        document = self.catalogue.document(document_id)
        if document.media_type != "application/pdf":
            raise UnsupportedFile(f"{document.name} is no PDF.", "Export the conversation as Markdown or HTML.")
        with self._folder() as folder, self.intake.opened(document) as path:
            highlight(path, marks, out := Path(folder, "highlighted"), self.intake.limits)
            return out.read_bytes()

    def original(self, document_id: str) -> AbstractContextManager[Path]:
        """The file as it was added, or as it was unlocked, while this lasts. Raises DocumentNotFound."""
        return self.intake.opened(self.catalogue.document(document_id))

    def sample(self) -> Path:
        """A copy of the sample document, ready to be added."""
        return Path(shutil.copy(SAMPLE, tempfile.mkdtemp(dir=self._home.uploads)))

    def suggested(self, document_id: str) -> tuple[str, ...]:
        """Questions to begin with: some that the sample answers, and of any other document what is always answered."""
        digest, questions = _sample()
        is_sample = self.catalogue.document(document_id).digest == digest
        return questions if is_sample else ("What is this document about?", "Summarise it in five points")

    def guide(self, document_id: str) -> Answer | None:
        """What a document that is read is, and its main points, as soon as that is made."""
        return self._guides.of(document_id)

    def start(self) -> None:
        """Go on with whatever an earlier run had not finished, in the background."""
        self._worker.start()
        self._guides.start()
        for document in reversed(self._store.documents()):
            if document.state != "rejected":
                self._worker.parse(document.id)

    def close(self) -> None:
        """Stop the background work after the chunk or page at hand."""
        self._worker.close()
        self._guides.close()

    def _look(self) -> Iterator[str]:
        yield from self.ingest.unfinished()
        self.at_rest()
        if not self._home.is_read_only:
            self._recoding.one(self._worker.is_wanted)

    def _parsed(self) -> list[Document]:
        """Oldest first; those that are not parsed yet are planned when they are."""
        return [each for each in reversed(self._store.documents()) if each.state == "parsed"]

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=self._home.uploads)

    def _stay_as_it_was(self, document_id: str) -> bool:
        """Go back to the recipe whose pods are there, if others are being made."""
        engine = self._model.peek()
        serving = engine.presets.serving(document_id) if engine else None
        made = engine.presets.current(document_id) if engine and serving and serving.state == "ready" else None
        if serving is None or made is None or made.id == serving.id or made.state == "ready":
            return False
        self._worker.settle(document_id)
        with storing():
            self._store.choose_recipe(document_id, serving.recipe)
        self._retention.delete(made)
        return True

    def _num_bytes(self) -> dict[str, float]:
        return {each.id: each.num_bytes for each in self._store.documents()}

    def _set_state(self, document_id: str, state: ReadingState, only_from: Collection[ReadingState]) -> None:
        with storing():
            for reading in self.catalogue.readings(document_id):
                self._store.set_reading_state(reading.id, state, only_from=only_from)


@cache
def _sample() -> tuple[str, tuple[str, ...]]:
    """The sample's sha256, and questions that it answers."""
    known = json.loads(SAMPLE.with_name("questions.json").read_text("utf-8"))
    return hashlib.sha256(SAMPLE.read_bytes()).hexdigest(), tuple(each["question"] for each in known[:4])
