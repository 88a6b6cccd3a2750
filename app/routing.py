"""Routing: which passages of a document seem to answer a question, and so which of its sections are attended."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

from app.derived_figures import derived_figure
from app.evidence import Ranked, candidates
from app.idioms import other_words
from app.indexed_page import IndexedPage, indexed_page
from app.meaning import Meaning, PageMeaning, nearest
from app.page_names import page_named, page_number
from app.query_terms import QueryTerms, core_question, is_foreign, seek
from app.words import terms
from storage import Section, Store

_PAGES = 40
_PAGES_BY_MEANING = 20
_INDEXED = 1_000
"""Pages of a document that are at hand: half of those that fit."""


class Route:
    """Where a question goes. The pages are searched when something of it is first wanted: a document of few sections
    is attended as a whole, and the device looks at it meanwhile.
    """

    def __init__(self, question: str, document_id: str, store: Store, meaning: Meaning | None = None) -> None:
        self.question = question
        self.derived = derived_figure(question)
        """The figure that it asks for, if that is one which is worked out from others."""
        self._sought = f"{core_question(question)} {other_words(question)} {self.derived.lines}".strip()
        self._document_id, self._store = document_id, store
        self._meaning = None if is_foreign(question) else meaning
        """Unless the encoder does not know the script."""

    @cached_property
    def pages(self) -> Mapping[int, float]:
        """BM25 scores of the pages with any of the words, as shares of the best; best first."""
        found = dict(self._store.search_pages(self._document_id, terms(self._sought), _PAGES))
        best = max(found.values(), default=0.0) or 1.0
        return {number: max(0.0, score) / best for number, score in found.items()}

    @cached_property
    def terms(self) -> QueryTerms:
        """What is sought."""
        document = self._store.document(self._document_id)
        return seek(self.question, list(self._indexed.values()), self.derived.lines, document.title if document else "")

    @cached_property
    def candidates(self) -> Sequence[Ranked]:
        """The passages that may answer, best first."""
        return candidates(self.question, self.terms, self._indexed, self.pages, self.meanings, self._named)

    def order(self, sections: Sequence[Section]) -> list[Section]:
        """The sections, the one with the best passage first; without any, in the order of the document."""
        scores: dict[int, float] = {}
        for each in self.candidates:
            if each.words or each.meaning or each.named:
                scores.setdefault(each.passage.page, each.score)

        def score(section: Section) -> float:
            """The best page counts in full, further ones less and less."""
            own = [each for page, each in scores.items() if section.first_page <= page <= section.last_page]
            return sum((each / 4.0**place for place, each in enumerate(sorted(own, reverse=True))), 0.0)

        return sorted(sections, key=score, reverse=True)

    @cached_property
    def meanings(self) -> Mapping[int, PageMeaning]:
        """How near pages come to the question in meaning, if that is known of them."""
        return self._meaning.near(self._document_id, self._sought) if self._meaning else {}

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """The texts of some pages of the document."""
        return self._store.page_texts(self._document_id, numbers)

    @cached_property
    def _named(self) -> int:
        """The page that the question names, as in "on the second page"; 0 where it names none."""
        page = page_named(self.question)
        return page_number(page.label, self._store.pages(self._document_id)) if page else 0

    @cached_property
    def _indexed(self) -> Mapping[int, IndexedPage]:
        """The pages that are looked at, in the order of the document."""
        found = {*self.pages, *nearest(self.meanings, _PAGES_BY_MEANING)} or range(1, _PAGES + 1)
        wanted = sorted({*found, *([self._named] if self._named else [])})
        return indexed_pages(self._document_id, self._store, wanted)


def index(document_id: str, store: Store) -> None:
    """Have the passages of a document's pages at hand, for questions to come."""
    for first in range(1, _INDEXED, _PAGES):
        if not indexed_pages(document_id, store, range(first, first + _PAGES)):
            return


def indexed_pages(document_id: str, store: Store, numbers: Collection[int]) -> dict[int, IndexedPage]:
    """Those of some pages of a document that there are, by number."""
    texts = store.page_texts(document_id, {number + beside for number in numbers for beside in (-1, 0, 1)})
    return {
        number: indexed_page(number, texts[number], texts.get(number - 1, ""), texts.get(number + 1, ""))
        for number in numbers
        if number in texts
    }
