"""Evidence: which passages of a document hold the answer, from the words of the question, what they mean, and the
model's look.

The weights and the threshold were set on public reports and filings: see docs/evidence.md.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.answer_span import answer_span, asks_for, asks_which, counted, counts, may_answer, parts
from app.definitions import defined, said_outright
from app.indexed_page import IndexedPage, goes_on
from app.meaning import PageMeaning
from app.passages import MAX_CHARS, Passage
from app.query_terms import QueryTerms
from app.sections import SectionText

WHOLE_WEIGHT = 1.0
"""For words that stand together: of a passage that holds the whole question, as much again as for its words."""
PAGE_WEIGHT = 0.5
MEANING_WEIGHT = 2.0
FIGURES_WEIGHT = 0.7
ROW_WEIGHT = 0.7
DEFINES_WEIGHT = 1.5
BARE_WEIGHT = 2.0
NAMED_WEIGHT = 10.0
"""More than all else together."""
OTHER_WEIGHT = 0.5
FITS_WEIGHT = 0.3
TOGETHER_WEIGHT = 0.2
BREVITY_WEIGHT = 0.2
"""Of two that say as much the shorter one comes first."""
ATTENTION_WEIGHT = 0.5
FOUND = 1.12
FOUND_ON_ITS_PAGE = 0.1
"""The same of a passage of the page that the question names."""
FOUND_BY_WORDS = 0.3
"""The same of a document whose meaning is not known."""
FOUND_IN_OTHER_SCRIPTS = 0.7
"""The same where the encoder of meaning does not know the script, and names are not told by capitals."""
_MEANING_COUNTS = 1.5
_MISSING_COUNTS = 0.5
_SAME = 0.6
"""Share of the question that a passage about another name must hold, so that it is what is sought but for the name."""
_KINDS_LOOKED_AT, _NEAR, _CLOSE = 3, 0.5, 0.1
"""Pages on whose best passages something of the kind that is sought must stand, the share of the best score that they
must have, and how much less than the best of its page."""
SPANS = 10
"""Passages of which it is found out which of their characters answer."""
_HOLDS = 0.9
"""Share of a term that a passage which says what it means must hold."""
_LETTER = re.compile(r"[^\W\d_]")
_TELLS = 0.2
"""Share of the question from which a word more in the next sentence makes that the one which answers."""
_LOOKED_INTO = 40
"""Passages of which it is found out whether they hold what may be an answer."""
_AS_NEAR = 0.9
"""Of the words of the best passage what a row of figures must hold, so that it is what is sought."""
_RANKED = 128
"""Passages that are ranked: many more than are ever looked at."""


@dataclass(frozen=True)
class Ranked:
    """A passage, and why it ranks where it does.

    `words` is the share of the question that it and its neighbours hold, `page` its page's share of the best BM25
    score, `meaning` how near the lines around it and its page as a whole come to the question (the sum of two cosines),
    `figures` what counts where an amount is sought: that there are rows of tables on its page, and that it is one, or
    where a meaning is that it tells it;
    `missing` the share of the question that is nowhere; `other` says that it tells the same of another name, `named`
    that the question names its page, `fits` that it has something of the kind that is sought, such as an amount,
    `together`, where it has, the share of words that stand side by side in the question and here too, and
    `lacking` that the same is told of another name in more of the question's words, or that neither it nor the next
    ones have anything of that kind.
    `attention` is the attention mass on it, in section `section` of those that were asked (an index), on the slots from
    its first to its last one; section is -1 where none of them holds it.
    """

    passage: Passage
    words: float
    page: float
    meaning: float = 0.0
    figures: float = 0.0
    other: bool = False
    named: bool = False
    missing: float = 0.0
    fits: bool = False
    together: float = 0.0
    lacking: bool = False
    section: int = -1
    slots: tuple[int, int] = (0, -1)
    attention: float = 0.0
    span: tuple[int, int] | None = None
    """The characters (start, end) of the page's text, inside the passage, that answer; None where that is not known."""
    foreign: bool = False
    """Whether the question is in a script that the encoder of meaning does not know."""
    beside: bool = False
    """Whether it is shown beside the best passage, though it stands on the same page."""

    @cached_property
    def score(self) -> float:
        """What passages are ranked by."""
        because = self.words, self.page, self.meaning, self.figures, self.other, self.named, len(self.passage.text)
        more = FITS_WEIGHT * self.fits + TOGETHER_WEIGHT * self.together + ATTENTION_WEIGHT * self.attention
        return float(_score(*because) + more)

    @property
    def found(self) -> bool:
        """Whether the passage may be called an answer."""
        sure = self.words + _MEANING_COUNTS * self.meaning - _MISSING_COUNTS * self.missing
        by_words = FOUND_IN_OTHER_SCRIPTS if self.foreign else FOUND_BY_WORDS
        least = FOUND_ON_ITS_PAGE if self.named else FOUND if self.meaning else by_words
        return sure >= least and not self.other and not self.lacking


def _score(words: Any, page: Any, meaning: Any, figures: Any, other: Any, named: Any, num_chars: Any) -> Any:
    """What counts of a passage, or of many (N,), before its text is looked into."""
    return (
        words
        + WHOLE_WEIGHT * words**4
        + PAGE_WEIGHT * page
        + MEANING_WEIGHT * meaning
        + figures
        + NAMED_WEIGHT * named
        - OTHER_WEIGHT * other
        - BREVITY_WEIGHT * num_chars / MAX_CHARS
    )


def candidates(
    question: str,
    terms: QueryTerms,
    pages: Mapping[int, IndexedPage],
    matches: Mapping[int, float],
    meant: Mapping[int, PageMeaning],
    named: int = 0,
) -> list[Ranked]:
    """The best passages of some pages, best first, before the model has looked; those of the page that the question
    names, if it names one, before all others.

    `matches` are the pages' BM25 scores as shares of the best.
    """
    indexed = list(pages.values())
    every = [passage for page in indexed for passage in page.passages]
    if not every:
        return []
    by_page = partial(np.repeat, repeats=[len(page.passages) for page in indexed])
    words = terms.shares(indexed)
    other = terms.others(indexed, words) | bool(terms.absent)
    if terms.slots:
        other |= [terms.is_of_another(passage) for passage in every]
    meaning = [
        meant[n].around(page.middles) if n in meant else np.zeros(len(page.middles)) for n, page in pages.items()
    ]
    rows = np.concatenate([page.rows for page in indexed])
    figures = np.zeros(len(every))
    if says := said_outright(question):
        for n in np.flatnonzero(words > _HOLDS):
            figures[n] = DEFINES_WEIGHT * (says.search(every[n].text) is not None)
    elif asks_which(question):
        figures[rows] = -FIGURES_WEIGHT / 2
    elif terms.figures:
        figures = FIGURES_WEIGHT * by_page([page.rows.sum() / max(1, len(page.rows)) for page in indexed])
        figures[rows] += ROW_WEIGHT * np.array([terms.names_row(every[n]) for n in np.flatnonzero(rows)])
    # A figure alone, such as a page's number, answers nothing by itself.
    figures -= BARE_WEIGHT * np.array([not _LETTER.search(f"{each.text}{each.above}") for each in every])
    because = {
        "words": words,
        "page": by_page([matches.get(number, 0.0) for number in pages]),
        "meaning": np.concatenate(meaning),
        "figures": figures,
        "other": other,
        "named": by_page([number == named for number in pages]),
    }
    num_chars = np.array([len(passage.text) for passage in every])
    best = np.argsort(-_score(**because, num_chars=num_chars), kind="stable")[:_RANKED]
    told = zip(*(each[best].tolist() for each in because.values()), strict=True)
    found = [
        Ranked(every[n], missing=terms.missing, foreign=terms.foreign, **dict(zip(because, each, strict=True)))
        for n, each in zip(best.tolist(), told, strict=True)
    ]
    for index, each in enumerate(found[:_LOOKED_INTO]):
        quote = each.passage.quote
        fits = may_answer(question, [quote]) and counts(question, quote)
        found[index] = replace(each, fits=fits, together=terms.together(each.passage) if fits else 0.0)
    return _ordered(found)


def rank(
    question: str,
    terms: QueryTerms,
    found: Sequence[Ranked],
    sections: Sequence[SectionText],
    attention: Sequence[NDArray[np.float32]] | None = None,
) -> list[Ranked]:
    """The candidates after some sections are recalled, best first, with what answers in the first ones.

    `attention` holds the attention mass per slot of each section, if the model has looked at them.
    """
    masses = [np.concatenate([[0.0], each.cumsum(dtype=np.float64)]) for each in attention or ()]
    places = [{page.number: (page, slot) for page, slot in section.page_slots()} for section in sections]
    ranked = []
    for each in found:
        for number, pages in enumerate(places):
            if each.passage.page not in pages:
                continue
            page, first_slot = pages[each.passage.page]
            first = first_slot + bisect_right(page.spans, each.passage.start, key=lambda span: span[1])
            stop = first_slot + bisect_left(page.spans, each.passage.end, key=lambda span: span[0])
            if first < stop:
                mass = min(1.0, float(masses[number][stop] - masses[number][first])) if masses else 0.0
                each = replace(each, section=number, slots=(first, stop - 1), attention=mass)
                break
        ranked.append(each)
    ranked = _ordered(ranked)
    for index, each in enumerate(ranked[:SPANS]):
        ranked[index] = replace(each, span=answer_span(question, terms.weights, each.passage))
    if ranked:
        # As they rank by what they say alone: something of the kind stands on nearly every page.
        by_words = sorted(ranked, key=lambda each: each.score - FITS_WEIGHT * each.fits, reverse=True)
        best: dict[int, float] = {}
        near: list[str] = []
        for each in by_words:
            if each.score < _NEAR * by_words[0].score:
                break
            alone = each.score - FITS_WEIGHT * each.fits
            is_near = len(best) < _KINDS_LOOKED_AT or each.passage.page in best
            if is_near and alone >= best.setdefault(each.passage.page, alone) - _CLOSE:
                near.append(each.passage.quote)
        told = max((each.words for each in ranked if each.other), default=0.0)
        lacking = told > max(_SAME, ranked[0].words)
        # What no number tells may still be there to be counted.
        there = counted(question) & ranked[0].passage.stems
        is_as_near = ranked[0].fits and ranked[0].passage.is_row and ranked[0].words >= _AS_NEAR * by_words[0].words
        lacking |= not (ranked[0].named or is_as_near or there or defined(question) or may_answer(question, near))
        ranked[0] = replace(ranked[0], lacking=lacking)
        together = _together(question, terms, ranked)
        shown = {each.passage for each in together}
        ranked = [*together, *(each for each in ranked if each.passage not in shown)]
    return ranked


def _together(question: str, terms: QueryTerms, ranked: Sequence[Ranked]) -> list[Ranked]:
    """The best passage, with what belongs to it on its page: the sentence behind it where that answers and says "it" of
    what is asked about; a note that says otherwise of the same, which was written later and so comes first; and what
    answers a further part of the question."""
    best = ranked[0]
    page = [each for each in ranked[1:_LOOKED_INTO] if each.passage.page == best.passage.page]
    first = [best]
    asked = parts(question)
    behind = next((each for each in page if goes_on(best.passage, each.passage)), None)
    quotes = [[each.passage.quote] for each in (best, behind) if each]
    answer = [may_answer(question, quote, asked[0]) for quote in quotes]
    if behind and answer[-1] and (not answer[0] or _adds(terms, best.passage, behind.passage)):
        span = answer_span(question, terms.weights, behind.passage)
        first = [replace(behind, words=best.words, span=span), replace(best, span=None)]
    for each in page:
        if each.passage.is_note != best.passage.is_note and each.words >= best.words and each.fits >= best.fits:
            other = replace(each, lacking=best.lacking and not each.fits)
            first = sorted([best, other], key=lambda one: not one.passage.is_note)
            break
    for part in asked[1:]:
        if not asks_for(part):
            continue
        if may_answer(question, [first[0].passage.quote], part):
            span = answer_span(question, terms.weights, first[0].passage, part)
            first[0] = replace(first[0], span=_hull(first[0].span, span))
        elif witness := next((each for each in page if may_answer(question, [each.passage.quote], part)), None):
            first.append(replace(witness, span=answer_span(question, terms.weights, witness.passage, part)))
    return [first[0], *(replace(each, beside=True) for each in first[1:])]


def _adds(terms: QueryTerms, passage: Passage, following: Passage) -> bool:
    """Whether the following passage has words of the question that the passage lacks, such as what was done."""
    return any(weight >= _TELLS for word, weight in terms.weights.items() if word in following.stems - passage.stems)


def _hull(one: tuple[int, int] | None, other: tuple[int, int] | None) -> tuple[int, int] | None:
    """From the first of the characters of two spans to the last."""
    return (min(one[0], other[0]), max(one[1], other[1])) if one and other else one


def _ordered(found: Sequence[Ranked]) -> list[Ranked]:
    """By score, best first; where a heading or a caption is the best of its page, what stands there is named before it:
    it says what is below it, and seldom answers."""
    found = sorted(found, key=lambda each: each.score, reverse=True)
    best = {each.passage.page: each for each in reversed(found)}
    text: dict[int, Ranked] = {}
    for each in found:
        first = best[each.passage.page]
        if not each.passage.is_head and each.fits >= first.fits and each.passage.start >= first.passage.start:
            text.setdefault(each.passage.page, each)

    def place(each: Ranked) -> tuple[float, bool]:
        page = each.passage.page
        return (best[page].score, True) if each is text.get(page) else (each.score, False)

    return sorted(found, key=place, reverse=True)
