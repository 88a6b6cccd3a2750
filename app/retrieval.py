"""Retrieval: the sections that a question needs, brought back with their passages, and the pages that are shown."""

import logging
from collections.abc import Collection

from app.conversations import keeping
from app.errors import DocumentNotFound, NotRead
from app.meaning import Meaning
from app.pod_engine import PodEngine
from app.recall import Recalled
from app.routing import Route
from storage import Page, Reading, Store

log = logging.getLogger(__name__)


class Retriever:
    """Finds what of a document a question is answered from."""

    def __init__(self, store: Store, meaning: Meaning | None = None) -> None:
        self._store, self.meaning = store, meaning

    def recall(self, engine: PodEngine, document_id: str, chosen: Route, recipe: str) -> tuple[list[Recalled], Reading]:
        """The sections that matter, as far as they are read, in the order of the document; and their reading.

        Another recipe's memory may take the place of the one that answers at any moment; then that one answers. Raises
        DocumentNotFound and NotRead.
        """
        tried = 0
        while (reading := engine.presets.serving(document_id, recipe)) is not None and reading.id != tried:
            tried = reading.id
            try:
                if recalled := self._sections(engine, reading, chosen):
                    with keeping():
                        self._store.touch_reading(reading.id)
                    return sorted(recalled, key=lambda each: each.section.position), reading
            except DocumentNotFound as gone:
                log.info("a memory went while a question was about to use it: %s", gone)
        if self._store.document(document_id) is None:
            raise DocumentNotFound("This document is not in the library.", "It may have been deleted; add it again.")
        raise NotRead("This document has not been read yet.", "Wait until its first pages are read, then ask again.")

    def _sections(self, engine: PodEngine, reading: Reading, chosen: Route) -> list[Recalled]:
        """As many sections as matter, of those that can be recalled."""
        sections, most = self._store.sections(reading.id), engine.loaded.sections_together
        if len(sections) > most:
            sections = chosen.order(sections)
        candidates = [each for each in sections if each.state != "waiting"]
        engine.recaller.expect(candidates[:most])
        recalled: list[Recalled] = []
        for section in candidates:
            if len(recalled) == most:
                break
            if each := engine.recaller.recall(section):
                recalled.append(each)
        return recalled


class Pages(dict[int, Page]):
    """Pages of a document by number, each fetched when it is wanted: hardly any is shown."""

    def __init__(self, store: Store, document_id: str) -> None:
        super().__init__()
        self._store, self.document_id = store, document_id

    def fetch(self, numbers: Collection[int]) -> None:
        """Have some pages at once."""
        self.update((page.number, page) for page in self._store.pages(self.document_id, numbers))

    def __missing__(self, number: int) -> Page:
        self.fetch([number])
        if number not in self:
            raise DocumentNotFound("The document was deleted while the question was answered.", "Ask another document.")
        return self[number]
