"""Citations: the passages that an answer shows, with their boxes on the page, and the second witness among them."""

from collections.abc import Mapping, Sequence

from app.answer_support import supports
from app.events import Cited
from app.evidence import Ranked
from app.passages import Passage, boxes
from app.readers import Word
from app.readers.typeset import words as typeset_words
from storage import Page, unpack_words

FEW = 3
"""Passages that are shown where nothing else is wanted."""
NEAR = 0.5
"""Share of the best score from which a further passage is worth a look beside one that is found."""
_SUPPORTS = 50
"""Passages, best first, among which one is sought that holds the answer's own words."""


def best_passages(ranked: Sequence[Ranked], most: int = FEW) -> list[Ranked]:
    """The best passages, one a page but for what belongs together; behind one that is found only those near it."""
    best: dict[object, Ranked] = {}
    for each in ranked:
        if ranked[0].found and not each.beside and each.score < NEAR * ranked[0].score:
            break
        best.setdefault(each.passage if each.beside else each.passage.page, each)
    return list(best.values())[:most]


def cite(ranked: Sequence[Ranked], pages: Mapping[int, Page]) -> tuple[Cited, ...]:
    """The passages as citations, marked 1, 2, 3 in their order."""
    return tuple(
        cited(mark, pages[each.passage.page], each.passage, each.score, each.span)
        for mark, each in enumerate(ranked, 1)
    )


def cited(mark: int, page: Page, passage: Passage, score: float = 1.0, span: tuple[int, int] | None = None) -> Cited:
    """A passage as a citation; `span` are the characters of the page's text that answer, if they are known."""
    place, quote = boxes(passage, words_of(page)), passage.quote
    return Cited(mark, page.number, page.label, quote, place, round(score, 3), _within(quote, passage, span))


def words_of(page: Page) -> Sequence[Word]:
    """The words of a page with their places; one without stored places is typeset here."""
    return [Word(*word) for word in unpack_words(page.words)] if page.words else typeset_words(page.text)


def _within(quote: str, passage: Passage, span: tuple[int, int] | None) -> tuple[int, int] | None:
    """Where some characters of a page stand in a passage's quote, which has other spaces, and heads before a row."""
    if span is None:
        return None
    start, end = span[0] - passage.start, span[1] - passage.start
    answer, behind = (" ".join(each.split()) for each in (passage.text[start:end], passage.text[end:]))
    last = len(quote)
    for _ in range(behind.count(answer) + 1 if answer else 0):
        last = quote.rfind(answer, 0, last)
        if last < 0:
            return None
    return (last, last + len(answer)) if answer else None


def with_support(
    answer: str, citations: tuple[Cited, ...], ranked: Sequence[Ranked], pages: Mapping[int, Page], most: int
) -> tuple[Cited, ...]:
    """The citations, and the passage that holds the answer's own words where the first citation does not."""
    if not citations or supports(answer, citations[0].quote):
        return citations
    second = next((each for each in ranked[:_SUPPORTS] if supports(answer, each.passage.quote)), None)
    if second is None or second.passage.page == citations[0].page:
        return citations
    kept = [citations[0], *(each for each in citations[1:] if each.page != second.passage.page)][:most]
    witness = cite([second], pages)[0]
    marked = [kept[0], witness, *kept[1:]][:most]
    return tuple(Cited(**{**vars(each), "mark": mark}) for mark, each in enumerate(marked, 1))
