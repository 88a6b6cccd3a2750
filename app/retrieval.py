"""Retrieval: the sections that a question needs, brought back with their passages, and the pages that are shown."""

import logging
from collections.abc import Collection, Sequence

from app.conversations import keeping
from app.errors import DocumentNotFound, NotRead
from app.evidence import PassageIndex, index
from app.pod_engine import PodEngine
from app.recall import Recalled, Recaller
from app.routing import Route
from app.sections import SectionText
from engine.core.weak_cache import WeakCache
from storage import Page, Reading, Store

log = logging.getLogger(__name__)


class Retriever:
    """Finds what of a document a question is answered from."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: WeakCache[SectionText, list[PassageIndex]] = WeakCache(lambda _: [])

    def recall(self, engine: PodEngine, document_id: str, chosen: Route, recipe: str) -> tuple[list[Recalled], Reading]:
        """The sections that matter, as far as they are read, in the order of the document; and their reading.

        Another recipe's memory may take the place of the one that answers at any moment; then that one answers. Raises
        DocumentNotFound and NotRead.
        """
        tried = 0
        while (reading := engine.presets.serving(document_id, recipe)) is not None and reading.id != tried:
            tried = reading.id
            try:
                if recalled := self._sections(engine.recaller, reading, chosen):
                    with keeping():
                        self._store.touch_reading(reading.id)
                    return sorted(recalled, key=lambda each: each.section.position), reading
            except DocumentNotFound as gone:
                log.info("a memory went while a question was about to use it: %s", gone)
        if self._store.document(document_id) is None:
            raise DocumentNotFound("This document is not in the library.", "It may have been deleted; add it again.")
        raise NotRead("This document has not been read yet.", "Wait until its first pages are read, then ask again.")

    def indexed(self, document_id: str, recalled: Sequence[Recalled]) -> list[PassageIndex]:
        """The passages of each section, found once for as long as its text is kept."""
        for each in recalled:
            if not (known := self._indexes(each.text)):
                pages = self._store.pages(document_id, {page.number for page in each.text.pages})
                known.append(index(each.text, {page.number: page.text for page in pages}))
        return [self._indexes(each.text)[0] for each in recalled]

    def _sections(self, recaller: Recaller, reading: Reading, chosen: Route) -> list[Recalled]:
        """As many sections as matter, of those that can be recalled."""
        sections = self._store.sections(reading.id)
        if len(sections) > chosen.num_sections:
            sections = chosen.order(sections)
        candidates = [each for each in sections if each.state != "waiting"]
        recaller.expect(candidates[: chosen.num_sections])
        recalled: list[Recalled] = []
        for section in candidates:
            if len(recalled) == chosen.num_sections:
                break
            if each := recaller.recall(section):
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
