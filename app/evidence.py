"""Evidence: which passages of the sections hold the answer, from the words of the question and the model's look.

The weights and the threshold were set on planted reports, the sample and real filings: see docs/evidence.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.passages import Passage, split
from app.query_terms import QueryTerms
from app.sections import SectionText

PAGE_WEIGHT = 0.25
ATTENTION_WEIGHT = 0.5
FOUND_SCORE = 0.8
"""Best score below which the document is said not to hold the answer."""


@dataclass(frozen=True)
class Ranked:
    """A passage of section `section` (an index into what was asked), and why it ranks where it does.

    `slots` are its first and last slot there; `page` is its page's share of the best BM25 score, `words` the share of
    the question that it and its neighbours hold, `attention` the attention mass on it: each between 0 and 1. `named`
    says whether it or a neighbour holds one of the question's names.
    """

    passage: Passage
    section: int
    slots: tuple[int, int]
    page: float
    words: float
    attention: float
    named: bool

    @property
    def score(self) -> float:
        """What passages are ranked by."""
        return PAGE_WEIGHT * self.page + self.words + ATTENTION_WEIGHT * self.attention

    @property
    def found(self) -> bool:
        """Whether the passage may be called an answer: it scores enough, and is about what was named."""
        return self.named and self.score >= FOUND_SCORE


def rank(
    terms: QueryTerms,
    sections: Sequence[SectionText],
    attention: Sequence[Sequence[float]],
    texts: Mapping[int, str],
    pages: Mapping[int, float],
) -> list[Ranked]:
    """All passages of the sections, best first.

    `attention` holds the attention mass per slot of each section, `texts` the pages' texts, `pages` their BM25 scores
    as shares of the best.
    """
    ranked = [
        Ranked(passage, index, slots, pages.get(passage.page, 0.0), words, min(1.0, mass), named)
        for index, (section, attention) in enumerate(zip(sections, attention, strict=True))
        for passage, slots, mass, words, named in _passages(terms, section, attention, texts)
    ]
    return sorted(ranked, key=lambda each: each.score, reverse=True)


def _passages(
    terms: QueryTerms, section: SectionText, attention: Sequence[float], texts: Mapping[int, str]
) -> list[tuple[Passage, tuple[int, int], float, float, bool]]:
    """Each passage of a section with its slots, the attention mass on them, its share of the question, and `named`."""
    found = []
    for page, first_slot in section.page_slots():
        passages = split(page.number, texts[page.number])
        at = 0
        for passage, (words, named) in zip(passages, terms.shares(passages), strict=True):
            while at < len(page.spans) and page.spans[at][1] <= passage.start:
                at += 1
            stop = at
            while stop < len(page.spans) and page.spans[stop][0] < passage.end:
                stop += 1
            if stop > at:
                slots = (first_slot + at, first_slot + stop - 1)
                found.append((passage, slots, sum(attention[slots[0] : slots[1] + 1]), words, named))
    return found
