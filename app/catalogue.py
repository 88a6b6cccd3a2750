"""The catalogue: what is known of each document, and what is happening to it."""

from collections.abc import Sequence

from app.errors import DocumentNotFound
from app.events import DocumentEntry, Progress
from app.model_handle import ModelHandle
from app.scans import WITHOUT_TEXT, why_silent
from app.worker import Worker
from storage import Document, PageState, Reading, Store


class Catalogue:
    """Documents as a user sees them."""

    def __init__(self, store: Store, model: ModelHandle, worker: Worker) -> None:
        self._store = store
        self._model = model
        self._worker = worker

    def document(self, document_id: str) -> Document:
        """A document by its id. Raises DocumentNotFound."""
        document = self._store.document(document_id)
        if document is None:
            raise DocumentNotFound("This document is not in the library.", "It may have been deleted; add it again.")
        return document

    def find(self, name: str) -> Document:
        """A document by the start of its id, or by its title or file name. Raises DocumentNotFound unless it is one."""
        found = self._store.find_documents(name)
        if len(found) == 1:
            return found[0]
        if not found:
            raise DocumentNotFound(f"No document is called {name!r}.", "The command `ls` lists the library.")
        titles = ", ".join(f"{document.id[:8]} ({document.file_name})" for document in found[:5])
        raise DocumentNotFound(f"{len(found)} documents match {name!r}: {titles}.", "Give more of the id.")

    def entries(self, search: str = "") -> list[DocumentEntry]:
        """The library, newest first."""
        return [self._entry(document) for document in self._store.documents(search)]

    def entry(self, document_id: str) -> DocumentEntry:
        """One document. Raises DocumentNotFound."""
        return self._entry(self.document(document_id))

    def labels(self, document_id: str) -> tuple[str, ...]:
        """How each page of a document is numbered in print, in order."""
        return self._store.page_labels(document_id)

    def readings(self, document_id: str) -> list[Reading]:
        """What a user's word about a document is about: its reading as it is chosen, or all until there is a model."""
        if engine := self._model.peek():
            reading = engine.presets.current(document_id)
            return [reading] if reading else []
        return self._store.readings(document_id)

    def _entry(self, document: Document) -> DocumentEntry:
        engine = self._model.peek()
        reading = next(reversed(self.readings(document.id)), None)
        serving = None
        if engine and reading and reading.state != "ready":
            serving = engine.presets.serving(document.id)
        states = [state for _, state in self._store.page_states(document.id)]
        return DocumentEntry(
            document_id=document.id,
            title=document.title,
            file_name=document.file_name,
            pages=document.num_pages,
            pages_without_text=sum(state != "ok" for state in states),
            pages_for_ocr=sum(state in WITHOUT_TEXT for state in states),
            num_bytes=document.num_bytes,
            pod_bytes=sum(each.num_bytes for each in self._store.readings(document.id)),
            progress=self._progress(document, reading, states),
            forecast=engine.planner.forecast(reading) if engine and reading else None,
            recipe=reading.recipe if engine and reading else "",
            answers_from=serving.recipe if serving and reading and serving.id != reading.id else "",
            outline=tuple(document.outline),
            media_type=document.media_type,
            note=document.note,
            attachments=tuple(document.attachments),
        )

    def _progress(self, document: Document, reading: Reading | None, states: Sequence[PageState]) -> Progress:
        """What is happening at this moment, or else what the database knows."""
        live = self._worker.progress(document.id)
        if live is not None and (reading is None or reading.state != "ready"):
            return live
        if document.state == "rejected" and document.error:
            return Progress(document.id, "failed", message=document.error["message"], hint=document.error["hint"])
        if reading is None and states and "ok" not in states:
            message, hint = why_silent(states)
            return Progress(document.id, "failed", message=message, hint=hint)
        if reading is None:
            return Progress(document.id, "queued")
        tokens, page = self._read_so_far(document, reading)
        # A reading that nobody is at work on waits for its turn; one that never began waits for the user.
        stage = {"reading": "queued", "paused": "paused" if tokens else "waiting"}.get(reading.state, reading.state)
        return Progress(
            document_id=document.id,
            stage=stage,
            done=tokens,
            total=reading.num_tokens,
            pages_done=page,
            pages_total=document.num_pages,
            message=(reading.error or {}).get("message", ""),
            hint=(reading.error or {}).get("hint", ""),
        )

    def _read_so_far(self, document: Document, reading: Reading) -> tuple[int, int]:
        """Tokens, and about how many pages."""
        if reading.state == "ready":
            return reading.num_tokens, document.num_pages
        tokens = page = 0
        for section in self._store.read_so_far(reading.id):
            tokens += section.tokens_read
            if section.tokens_read:
                page = section.last_page_read
        return tokens, page
