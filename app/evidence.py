"""Evidence: which passages of the sections hold the answer, from the words of the question and the model's look.

The weights and the threshold were set on planted reports, the sample and real filings: see docs/evidence.md.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.passages import Passage, split
from app.query_terms import BESIDE, QueryTerms
from app.sections import SectionText

PAGE_WEIGHT = 0.25
ATTENTION_WEIGHT = 0.5
FOUND_SCORE = 0.8
"""Best score below which the document is said not to hold the answer."""
_RANKED = 256
"""Passages that are ranked: many more than are ever looked at."""


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
    span: tuple[int, int] | None = None
    """The characters (start, end) of the page's text, inside the passage, that answer; None where that is not known."""

    @property
    def score(self) -> float:
        """What passages are ranked by."""
        return PAGE_WEIGHT * self.page + self.words + ATTENTION_WEIGHT * self.attention

    @property
    def found(self) -> bool:
        """Whether the passage may be called an answer: it scores enough, and is about what was named."""
        return self.named and self.score >= FOUND_SCORE


@dataclass(frozen=True)
class PassageIndex:
    """The N passages of a section, page by page, and where their stems are: made once for all questions.

    `slots` (N, 2) are the first and last slot of each, `inside` (N,) whether the section holds any; `pages` (N,) its
    page, and `follows` (N,) whether another one of its page stands before it.
    """

    passages: Sequence[Passage]
    slots: NDArray[np.int64]
    inside: NDArray[np.bool_]
    pages: NDArray[np.int64]
    follows: NDArray[np.bool_]
    holders: Mapping[str, Sequence[int]] = field(repr=False)
    """By stem, the numbers of the passages that hold it."""

    def shares(self, terms: QueryTerms) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What QueryTerms.shares says of each passage: its share of the question, and whether a name is near (N,)."""
        share, named = np.zeros(len(self.passages)), np.full(len(self.passages), not terms.names)
        for stem, weight in terms.weights.items():
            own = np.zeros(len(self.passages), dtype=bool)
            own[list(self.holders.get(stem, ()))] = True
            near = own.copy()
            near[1:] |= own[:-1] & self.follows[1:]
            near[:-1] |= own[1:] & self.follows[1:]
            share += weight * np.where(own, 1.0, np.where(near, BESIDE, 0.0))
            if stem in terms.names:
                named |= near
        return np.minimum(share, 1.0), named


def index(section: SectionText, texts: Mapping[int, str]) -> PassageIndex:
    """The passages of a section's pages, whose texts are given by number."""
    passages: list[Passage] = []
    places: list[tuple[int, int, bool, bool]] = []
    holders: dict[str, list[int]] = {}
    for page, first_slot in section.page_slots():
        starts, ends = zip(*page.spans, strict=True)
        found = split(page.number, texts[page.number])
        for passage in found:
            at, stop = bisect_right(ends, passage.start), bisect_left(starts, passage.end)
            for stem in passage.stems:
                holders.setdefault(stem, []).append(len(passages))
            places.append((first_slot + at, first_slot + stop - 1, stop > at, passage is not found[0]))
            passages.append(passage)
    table = np.array(places, dtype=np.int64).reshape(-1, 4)
    pages = np.array([passage.page for passage in passages], dtype=np.int64)
    return PassageIndex(passages, table[:, :2], table[:, 2] > 0, pages, table[:, 3] > 0, holders)


def rank(
    terms: QueryTerms,
    sections: Sequence[PassageIndex],
    attention: Sequence[NDArray[np.float32]],
    pages: Mapping[int, float],
) -> list[Ranked]:
    """The best passages of the sections, best first.

    `attention` holds the attention mass per slot of each section, `pages` the pages' BM25 scores as shares of the best.
    """
    found = []
    for number, (section, seen) in enumerate(zip(sections, attention, strict=True)):
        words, named = section.shares(terms)
        until = np.concatenate([[0.0], seen.cumsum(dtype=np.float64)])
        first, last = section.slots.T
        mass = np.minimum(1.0, until[np.where(section.inside, last + 1, 0)] - until[np.where(section.inside, first, 0)])
        page = np.array([pages.get(each, 0.0) for each in section.pages.tolist()])
        score = np.where(section.inside, PAGE_WEIGHT * page + words + ATTENTION_WEIGHT * mass, -np.inf)
        for each in np.argsort(-score, kind="stable")[: min(_RANKED, int(section.inside.sum()))].tolist():
            slots = int(first[each]), int(last[each])
            facts = float(page[each]), float(words[each]), float(mass[each]), bool(named[each])
            found.append(Ranked(section.passages[each], number, slots, *facts))
    return sorted(found, key=lambda each: each.score, reverse=True)
