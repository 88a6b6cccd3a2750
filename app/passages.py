"""Passages: the sentences and lines of a page that can be quoted, and where they stand on it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from app.readers import Word
from app.words import stems

Box = tuple[float, float, float, float]

MAX_CHARS = 320
_END = re.compile(r"[.!?;:][\"'”’)]*(\s+)(?=[\"'“‘(]*[A-Z0-9•–-])|(\n\s*\n)|(\n)(?=\s*[•▪–-]\s)")
"""The space (one of the groups) between two sentences, paragraphs or list items."""
_HEADING = re.compile(r"\s*([A-Z0-9][^\n]{0,79}[^\W\d_])[ \t]*\n(?=([A-Z]\S*))")
"""A line (1) that ends with a letter, and the first word (2) of the next one, which begins as a sentence does."""
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|No|Nos|Inc|Ltd|Co|Corp|vs|etc|e\.g|i\.e|approx|Fig|Sec|Art|pp?)|\b[A-Z])\.$"
)


@dataclass(frozen=True)
class Passage:
    """Characters start..end of a page's text."""

    page: int
    start: int
    end: int
    text: str

    @property
    def lead(self) -> int:
        """Characters of headings in front of a sentence at the top of a page."""
        lead = 0
        if self.start == 0 and self.text.rstrip().endswith((".", "!", "?")):
            while match := _HEADING.match(self.text, lead):
                line, word = match.groups()
                widest = max(map(len, self.text[match.end() :].split("\n", 3)[:3]))
                # On a line as wide as the next ones the next word would have fitted.
                if len(line) + 1 + len(word) >= 0.75 * widest:
                    break
                lead = match.end()
        return lead

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of its words."""
        return stems(self.text)

    @property
    def quote(self) -> str:
        """The text on one line, without headings."""
        return " ".join(self.text[self.lead :].split())


@lru_cache(maxsize=1024)
def split(page: int, text: str) -> tuple[Passage, ...]:
    """The passages of a page in order: sentences, list items, or lines of a table; none longer than MAX_CHARS.

    Every question comes back to the same pages.
    """
    return tuple(
        Passage(page, start, end, text[start:end])
        for first, last in _sentences(text)
        for start, end in _shortened(text, first, last)
        if text[start:end].strip()
    )


def boxes(passage: Passage, words: Sequence[Word]) -> tuple[Box, ...]:
    """One box per line that the quoted part of a passage covers on its page, as fractions of the page.

    Lines may run in any direction; a line end of the text is one on the page too.
    """
    lines: list[list[float]] = []
    start = passage.start + passage.lead
    last: Word | None = None
    for word in words:
        if word.start >= passage.end or word.end <= start:
            continue
        between = passage.text[max(0, last.end - passage.start) : word.start - passage.start] if last else "\n"
        if last and "\n" not in between and _same_line(last, word):
            line = lines[-1]
            line[:] = [min(line[0], word.x0), min(line[1], word.y0), max(line[2], word.x1), max(line[3], word.y1)]
        else:
            lines.append([word.x0, word.y0, word.x1, word.y1])
        last = word
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in lines)


def _same_line(last: Word, word: Word) -> bool:
    """Whether a word stands beside the last one: in a row with it, or below or above it where text is turned."""
    across = min(last.x1, word.x1) - max(last.x0, word.x0)
    down = min(last.y1, word.y1) - max(last.y0, word.y0)
    if down > 0.5 * min(last.y1 - last.y0, word.y1 - word.y0):
        return -0.25 < across < 0.01
    is_turned = max(last.y1 - last.y0, word.y1 - word.y0) > 1.5 * max(last.x1 - last.x0, word.x1 - word.x0)
    return is_turned and across > 0.5 * min(last.x1 - last.x0, word.x1 - word.x0) and -0.25 < down < 0.01


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _END.finditer(text):
        end, behind = match.span(match.lastindex or 0)
        if _ABBREVIATION.search(text, start, end):
            continue
        yield start, end
        start = behind
    yield start, len(text)


def _shortened(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut what is too long at line ends, as in tables, else between words."""
    while end - start > MAX_CHARS:
        stop = text.rfind("\n", start + 1, start + MAX_CHARS)
        if stop <= start:
            stop = text.rfind(" ", start + 1, start + MAX_CHARS)
        if stop <= start:
            stop = start + MAX_CHARS
        yield start, stop
        start = stop
    yield start, end
