"""The catalogue: what is known of each document, and what is happening to it."""

from collections import Counter
from copy import copy

from app.errors import DocumentNotFound, NotAllowed
from app.events import DocumentEntry, Progress
from app.intake import storing
from app.listing import SORTS, listed, tags_in
from app.model_handle import ModelHandle
from app.scans import WITHOUT_TEXT, why_silent
from app.settings import Settings
from app.worker import Worker
from storage import Document, Reading, Shelved, Store

_GONE = "This document is not in the library.", "It may have been deleted; add it again."
_SORT = "sort"


class Catalogue:
    """Documents as a user sees them."""

    def __init__(self, store: Store, model: ModelHandle, worker: Worker, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._model = model
        self._worker = worker

    def seen_by(self, store: Store) -> "Catalogue":
        """The documents of the viewer of that store."""
        seen = copy(self)
        seen._store = store
        return seen

    def own(self, document_id: str) -> Document:
        """A document that its viewer may change. Raises DocumentNotFound, and NotAllowed for somebody else's."""
        if (document := self._store.document(document_id, own=True)) is None:
            self.document(document_id)
            raise NotAllowed("This document is shared with you to read and ask.", "Only its owner can change it.")
        return document

    def document(self, document_id: str) -> Document:
        """A document by its id. Raises DocumentNotFound."""
        document = self._store.document(document_id)
        if document is None:
            raise DocumentNotFound(*_GONE)
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

    def entries(self, search: str = "", sort: str = "added") -> list[DocumentEntry]:
        """Those documents of the library that a list shows for some words and tags, in one of the orders SORTS."""
        return listed(map(self._entry, self._store.shelf()), search, sort)

    def entry(self, document_id: str) -> DocumentEntry:
        """One document. Raises DocumentNotFound."""
        for known in self._store.shelf(document_id):
            return self._entry(known)
        raise DocumentNotFound(*_GONE)

    @property
    def sort(self) -> str:
        """The order that its user chose last."""
        return self._store.preference(_SORT) or "added"

    def sort_by(self, sort: str) -> None:
        """Show the library in one of the orders SORTS from now on."""
        if sort in SORTS:
            with storing():
                self._store.prefer(_SORT, sort)

    def tag(self, document_id: str, tags: str) -> None:
        """Sort a document under these tags alone, with spaces or commas between them. Raises BadName."""
        self.document(document_id)
        with storing():
            self._store.tag_document(document_id, tags_in(tags))

    def labels(self, document_id: str) -> tuple[str, ...]:
        """How each page of a document is numbered in print, in order."""
        return self._store.page_labels(document_id)

    def readings(self, document_id: str) -> list[Reading]:
        """What a user's word about a document is about: its reading as it is chosen, or all until there is a model."""
        if engine := self._model.peek():
            reading = engine.presets.current(document_id)
            return [reading] if reading else []
        return self._store.readings(document_id)

    def _entry(self, known: Shelved) -> DocumentEntry:
        engine, document, reading = self._model.peek(), known.document, next(reversed(known.readings), None)
        viewer = self._store.viewer
        is_own = viewer.has_all or document.owner == viewer.id
        serving = None
        if engine:
            reading, serving = engine.presets.of(known)
        return DocumentEntry(
            document_id=document.id,
            title=document.title,
            file_name=document.file_name,
            pages=document.num_pages,
            pages_without_text=sum(number for state, number in known.pages.items() if state != "ok"),
            pages_for_ocr=sum(known.pages.get(state, 0) for state in WITHOUT_TEXT),
            num_bytes=document.num_bytes,
            pod_bytes=sum(each.num_bytes for each in known.readings),
            progress=self._progress(known, reading),
            # It tells how large the disk is, and reading is its owner's affair.
            forecast=engine.planner.forecast(reading, known) if engine and reading and is_own else None,
            recipe=reading.recipe if engine and reading else "",
            answers_from=serving.recipe if serving and reading and serving.id != reading.id else "",
            outline=tuple(document.outline),
            media_type=document.media_type,
            note=document.note,
            attachments=tuple(document.attachments),
            tags=tuple(document.tags),
            is_own=is_own,
            used_at=max((each.last_used_at for each in known.readings), default=document.created_at),
        )

    def _progress(self, known: Shelved, reading: Reading | None) -> Progress:
        """What is happening at this moment, or else what the database knows."""
        document = known.document
        live = self._worker.progress(document.id)
        if live is not None and (reading is None or reading.state != "ready"):
            return live
        if document.state == "rejected" and document.error:
            return Progress(document.id, "failed", message=document.error["message"], hint=document.error["hint"])
        if reading is None and known.pages and "ok" not in known.pages:
            message, hint = why_silent([*Counter(known.pages).elements()], self._settings.ocr)
            return Progress(document.id, "failed", message=message, hint=hint)
        if reading is None:
            return Progress(document.id, "queued")
        tokens, page = reading.num_tokens, document.num_pages
        if reading.state != "ready":
            sections = known.sections[reading.id]
            tokens = sum(each.tokens_read for each in sections)
            page = max((each.last_page_read for each in sections if each.tokens_read), default=0)
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
