"""Running heads: what a document repeats at the top or foot of its pages is left out of their text, page numbers too.

The first page that has a head keeps it, as a paragraph of its own. Only the text of pages is known here, so this works
outside of the process that reads the file, while pages come: a page waits for the next two.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from app.readers.base import ParsedPage, Word

_BEFORE, _BEHIND = 4, 2
"""Pages that a page is compared with: heads may alternate between left and right pages."""
_SEEN = 2
"""On so many of these a head must stand."""
_LINES = 3
"""At the top, and at the foot, may be heads."""
_SHIFT = 0.012
"""Of the page's height, by which a head may move."""
_ROOM = 0.5
"""Of a line's height, at least, is between heads and text."""
_PARTS = re.compile(r"\s{2,}|\s+[|•·–—]\s+")
_FOOT = re.compile(r"(?P<first>\d{1,4})\s+(?=\D)|(?<=\D)\s+(?P<last>\d{1,4})$")
_NUMBER = re.compile(
    r"\W*(?:(?:page|pages|p|pg|seite|s|página|pagina|pág|sida|side|strona|стр|第)\b\.?\s*)?"
    r"(?P<series>(?:[a-z]{1,2}-)?)(?P<number>\d{1,4}|[ivxlc]{1,7})"
    r"(?:\s*(?:/|of|von|de|di|sur|av|af|van|z|из)\s*\d{1,4})?\W*(?:页|頁|ページ)?\W*",
    re.IGNORECASE,
)
"""A page number, as it stands alone in its line or beside a head."""
_YEARS = 1900
"""From here on a number is no page's."""
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


class _Line(NamedTuple):
    """A line of a page's text (0 is the first): at the top or foot, where, and the parts that others may repeat."""

    row: int
    at_top: bool
    place: float
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Page:
    page: ParsedPage
    lines: tuple[_Line, ...]

    def has(self, part: str, line: _Line) -> bool:
        """Whether it has the part of another page's line at the same place."""
        # A foot with a page number may follow the text at any height.
        floats = not line.at_top and any("#" in each for each in line.parts)
        return any(
            part in each.parts and each.at_top == line.at_top and (floats or abs(each.place - line.place) < _SHIFT)
            for each in self.lines
        )


def without_running_heads(pages: Iterable[ParsedPage]) -> Iterator[ParsedPage]:
    """The pages in order, each without the heads and feet that it shares with others."""
    near: deque[_Page] = deque()
    due = 0
    for page in pages:
        near.append(_Page(page, tuple(_edges(page))))
        if len(near) - due > _BEHIND:
            yield _cleaned(list(near), due)
            due += 1
        if due > _BEFORE:
            near.popleft()
            due -= 1
    for index in range(due, len(near)):
        yield _cleaned(list(near), index)


def _cleaned(near: Sequence[_Page], index: int) -> ParsedPage:
    """The page `near[index]` without what stands on pages before it; what only later pages repeat is set apart."""
    before, behind = near[max(0, index - _BEFORE) : index], near[index + 1 : index + 1 + _BEHIND]
    repeated: set[int] = set()
    apart: set[int] = set()
    for line in near[index].lines:
        times = [
            (sum(o.has(part, line) for o in before), sum(o.has(part, line) for o in behind)) for part in line.parts
        ]
        if times and all(sum(each) >= _SEEN for each in times):
            (repeated if all(each[0] for each in times) else apart).add(line.row)
    return _without(near[index].page, repeated, apart) if repeated or apart else near[index].page


def _edges(page: ParsedPage) -> Iterator[_Line]:
    """The lines that stand apart at the top and at the foot of a page."""
    lines: list[tuple[float, float, int, str]] = []
    start, words = 0, iter(page.words)
    word = next(words, None)
    for index, text in enumerate(page.text.split("\n")):
        boxes = []
        while word and word.start <= start + len(text):
            boxes.append(word)
            word = next(words, None)
        upright = [each for each in boxes if each.y1 - each.y0 < 0.1]
        if upright:
            lines.append((min(each.y0 for each in upright), max(each.y1 for each in upright), index, text))
        start += len(text) + 1
    lines.sort()
    for at_top, ordered in ((True, lines), (False, lines[::-1])):
        # Not all of them: a page is never emptied.
        for count in range(min(_LINES, len(lines) - 1), 0, -1):
            last, next_line = ordered[count - 1], ordered[count]
            room = next_line[0] - last[1] if at_top else last[0] - next_line[1]
            if room > _ROOM * (last[1] - last[0]):
                for place, (top, _, index, text) in enumerate(ordered[:count]):
                    parts = tuple(_parts(text, page.number, at_top))
                    # Below the first line, several parts may be the column heads of a table that goes on.
                    if place == 0 or len(parts) == 1 or any("#" in part for part in parts):
                        yield _Line(index, at_top, top, parts)
                break


def _parts(text: str, number: int, at_top: bool) -> Iterator[str]:
    """The parts of a line; of a page number, how far it is from the page's own number."""
    parts = _PARTS.split(text.strip())
    if len(parts) == 1 and not at_top and (match := _FOOT.search(text)):
        # At the top, "Room 3" may be the title of a page.
        parts = [match["first"] or match["last"], _FOOT.sub("", text, count=1)]
    for part in parts:
        match = _NUMBER.fullmatch(part)
        if match and _value(match["number"]) < _YEARS:
            yield f"{match['series']}#{_value(match['number']) - number}"
        else:
            yield part


def _value(number: str) -> int:
    if number.isdigit():
        return int(number)
    values = [_ROMAN[letter] for letter in number.lower()]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _without(page: ParsedPage, repeated: set[int], apart: set[int]) -> ParsedPage:
    """The page without some of its lines, and with blank lines around some others."""
    kept: list[tuple[int, str]] = []
    start = 0
    for index, line in enumerate(page.text.split("\n")):
        if index not in repeated:
            blank = (start, "")
            kept += [blank, (start, line), blank] if index in apart else [(start, line)]
        start += len(line) + 1
    text, words, position = "", list[Word](), 0
    for start, line in kept:
        if not line and (not text or text.endswith("\n\n")):
            continue
        for word in page.words[position:]:
            if word.start >= start + len(line):
                break
            position += 1
            if word.start >= start:
                shift = len(text) - start
                words.append(word._replace(start=word.start + shift, end=word.end + shift))
        text += line + "\n"
    return replace(page, text=text.rstrip(), words=tuple(words))
