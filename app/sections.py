"""Sections: runs of pages that fit the model's window, and the map from their tokens back to the pages."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

from engine.models.tokenizer import Tokenizer

_PAGE_END = "\n\n"
_KEPT_PAGES = 512
"""Of the pages tokenized last: to plan a section, to read it and to recall it takes the same tokens."""


@dataclass(frozen=True)
class PageTokens:
    """The tokens of one page, or of a piece of one that is longer than a section: characters start..end of its text."""

    number: int
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """Characters (start, end) of the page's text that each token covers."""


@dataclass(frozen=True)
class SectionText:
    """A section as the model reads it: the prompt's head, then pages. Pages are 1-based."""

    head: tuple[int, ...]
    pages: tuple[PageTokens, ...]

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """The slot of each page's first token, and behind them the end."""
        return tuple(accumulate((len(page.ids) for page in self.pages), initial=len(self.head)))

    @property
    def ids(self) -> list[int]:
        """All token ids, in order."""
        return [*self.head, *(token for page in self.pages for token in page.ids)]

    @property
    def num_tokens(self) -> int:
        """How many `ids` are."""
        return self._starts[-1]

    @property
    def first_page(self) -> int:
        """Number of the first page."""
        return self.pages[0].number

    @property
    def last_page(self) -> int:
        """Number of the last page."""
        return self.pages[-1].number

    @property
    def start_char(self) -> int:
        """Where in its first page the section starts."""
        return self.pages[0].spans[0][0] if self.pages[0].spans else 0

    @property
    def end_char(self) -> int:
        """Where in its last page the section ends."""
        return self.pages[-1].spans[-1][1] if self.pages[-1].spans else 0

    def page_slots(self) -> Iterator[tuple[PageTokens, int]]:
        """Each page with the slot of its first token."""
        return zip(self.pages, self._starts, strict=False)

    def locate(self, slot: int) -> tuple[int, int, int] | None:
        """Page number and characters (start, end) of the token in a slot; None inside the prompt's head."""
        index = bisect_right(self._starts, slot) - 1
        if not 0 <= index < len(self.pages):
            return None
        page = self.pages[index]
        start, end = page.spans[slot - self._starts[index]]
        return page.number, start, end


@lru_cache(_KEPT_PAGES)
def tokenize(number: int, text: str, tokenizer: Tokenizer) -> PageTokens:
    """The tokens of a page. Each page is tokenized alone, so a page's ids do not depend on its neighbours."""
    if not text.strip():
        return PageTokens(number, (), ())
    ids, spans = tokenizer.encode(text + _PAGE_END)
    return PageTokens(number, tuple(ids), tuple((min(a, len(text)), min(b, len(text))) for a, b in spans))


def cut(pages: Iterable[PageTokens], head: Sequence[int], limit: int) -> list[SectionText]:
    """Cut at page boundaries so that no section has more than `limit` tokens; a longer page is cut inside.

    A document that fits has one section. Otherwise sections are filled evenly, so that the last is not a stub.
    """
    room = limit - len(head)
    pieces = [piece for page in pages if page.ids for piece in _split(page, room)]
    count = -(-sum(len(piece.ids) for piece in pieces) // room)
    while len(sections := _fill(pieces, count, room)) > count:
        count += 1
    return [SectionText(tuple(head), tuple(section)) for section in sections]


def restore(start_char: int, num_tokens: int, pages: Iterable[PageTokens], head: Sequence[int]) -> SectionText:
    """The section that `cut` made before, from its first character, its size and its pages, first page first."""
    left = num_tokens - len(head)
    kept: list[PageTokens] = []
    for page in pages:
        first = bisect_left(page.spans, start_char, key=lambda span: span[0]) if not kept else 0
        piece = PageTokens(page.number, page.ids[first : first + left], page.spans[first : first + left])
        left -= len(piece.ids)
        if piece.ids:
            kept.append(piece)
    return SectionText(tuple(head), tuple(kept))


def _fill(pieces: Sequence[PageTokens], count: int, room: int) -> list[list[PageTokens]]:
    """About `count` sections of about one size; more where pages do not fit otherwise."""
    left = sum(len(piece.ids) for piece in pieces)
    sections: list[list[PageTokens]] = []
    size = target = 0
    for piece in pieces:
        if size >= target or size + len(piece.ids) > room:
            target = left // max(1, count - len(sections))
            sections.append([])
            size = 0
        sections[-1].append(piece)
        size += len(piece.ids)
        left -= len(piece.ids)
    return sections


def _split(page: PageTokens, room: int) -> Iterator[PageTokens]:
    start = 0
    while start < len(page.ids):
        stop = min(start + room, len(page.ids))
        # A character of several tokens stays whole, so that a piece can be found again by its first character.
        while stop < len(page.ids) and stop > start + 1 and page.spans[stop][0] <= page.spans[stop - 1][0]:
            stop -= 1
        yield PageTokens(page.number, page.ids[start:stop], page.spans[start:stop])
        start = stop
