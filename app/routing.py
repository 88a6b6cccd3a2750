"""Routing: which sections a question goes to, by the words of its pages."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from app.evidence import PAGE_WEIGHT
from app.passages import Passage, split
from app.query_terms import QueryTerms, seek
from app.words import terms
from storage import Section, Store

NUM_SECTIONS = 2
"""Sections that a question is answered from together."""
_PAGES = 40
_BACKWARD = re.compile(
    r"^(and|but|so|then|what about|how about|why|when|where|who)\b.{0,24}$"
    r"|\b(it|its|they|them|their|he|him|his|she|her|that|those|there|this)\b",
    re.IGNORECASE,
)
"""A question that leans on the one before: a short one that goes on, or one that points back."""


class Route:
    """Where a question goes. The pages are searched when something of it is first wanted: a document of few sections
    is attended as a whole, and the device looks at it meanwhile.
    """

    num_sections = NUM_SECTIONS

    def __init__(self, question: str, earlier: Sequence[str], document_id: str, store: Store) -> None:
        self.depends = bool(earlier) and (len(terms(question)) < 2 or _BACKWARD.search(question) is not None)
        """Whether earlier turns matter."""
        self._words = f"{question} {earlier[-1]}" if self.depends else question
        self._document_id, self._store = document_id, store

    @cached_property
    def pages(self) -> Mapping[int, float]:
        """BM25 scores of the pages with any of the words, as shares of the best; best first."""
        found = dict(self._store.search_pages(self._document_id, terms(self._words), _PAGES))
        best = max(found.values(), default=0.0) or 1.0
        return {number: max(0.0, score) / best for number, score in found.items()}

    @cached_property
    def terms(self) -> QueryTerms:
        """What is sought."""
        return seek(self._words, list(self._passages.values()))

    def order(self, sections: Sequence[Section]) -> list[Section]:
        """The sections, the one with the best page first; without any hit, in the order of the document.

        A page is worth what its best passage holds of the question, and a little for its BM25 score: words that stand
        together say more than words spread over a page.
        """
        if len(sections) < 2:
            return list(sections)
        scores = {
            number: PAGE_WEIGHT * self.pages[number] + max((share for share, _ in self.terms.shares(each)), default=0.0)
            for number, each in self._passages.items()
        }

        def score(section: Section) -> float:
            """The best page counts in full, further ones less and less."""
            own = [each for page, each in scores.items() if section.first_page <= page <= section.last_page]
            return sum((each / 4.0**place for place, each in enumerate(sorted(own, reverse=True))), 0.0)

        return sorted(sections, key=score, reverse=True)

    @cached_property
    def _passages(self) -> Mapping[int, Sequence[Passage]]:
        """Of the same pages."""
        return {page.number: split(page.number, page.text) for page in self._store.pages(self._document_id, self.pages)}
