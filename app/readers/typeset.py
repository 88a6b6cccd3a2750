"""Typesetting: where the words of a page of plain text stand, and the picture of it, in letters of every script.

A page is given by its text alone, so it looks the same whenever it is drawn. Fonts come from packages, so it also looks
the same on every machine; those of the system help out for letters that no package has.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

from PIL import Image, ImageDraw

from app.readers.base import Word
from app.readers.fonts import Face, runs
from app.readers.image import encode

PAGE_WIDTH_PT, PAGE_HEIGHT_PT = 595.0, 842.0
MARGIN_PT = 64.0
PAGE_ROWS = 44
ROW_CHARACTERS = 84
FONT_PT = 11.0
INK = (34, 34, 34)
WIDE = (
    "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6"
    "\U0001f300-\U0001faff\U00020000-\U0003fffd"
)
"""Characters as wide as two others, most of which stand without spaces between."""
_WIDE = re.compile(f"[{WIDE}]")
_WORD = re.compile(rf"[{WIDE}]|[^\s{WIDE}]+")
_ROW = re.compile(rf".{{0,{ROW_CHARACTERS}}}(?:\s|\Z)|.{{1,{ROW_CHARACTERS}}}")
_WIDE_ROW = re.compile(rf".{{1,{ROW_CHARACTERS // 2}}}\n?")
_LINE_PT = (PAGE_HEIGHT_PT - 2 * MARGIN_PT) / PAGE_ROWS
_TEXT_PT = PAGE_WIDTH_PT - 2 * MARGIN_PT
_TAB = 4
"""Spaces that a tab is as wide as."""


class Placed(NamedTuple):
    """The word `text[start:end]` where it stands on the page, and the size of the letters in its row, all in points."""

    start: int
    end: int
    left: float
    top: float
    right: float
    bottom: float
    font: float


def rows(text: str) -> Iterator[tuple[int, int]]:
    """Where each row begins and ends, its line end included: at spaces where there are any. Rows are whole lines, or
    begin as a page may begin, so the rest of a text is broken like the whole.
    """
    start = 0
    while start < len(text):
        stop = text.find("\n", start) + 1 or len(text)
        if stop - start <= ROW_CHARACTERS // 2:
            yield start, stop
        else:
            pattern = _WIDE_ROW if _WIDE.search(text, start, stop) else _ROW
            for found in pattern.finditer(text, start, stop):
                if found.end() > found.start():
                    yield found.span()
        start = stop


def words(text: str) -> tuple[Word, ...]:
    """Every word of a page with its box."""
    size = PAGE_WIDTH_PT, PAGE_HEIGHT_PT
    return tuple(
        Word(start, end, *(round(at / of, 5) for at, of in zip(box, size * 2, strict=True)))
        for start, end, *box, _ in _placed(text)
    )


def draw(text: str, width_px: int) -> bytes:
    """The picture of a page. Letters that no font has are named below it, instead of boxes in their place."""
    scale = width_px / PAGE_WIDTH_PT
    image = Image.new("RGB", (width_px, round(PAGE_HEIGHT_PT * scale)), "white")
    pen = ImageDraw.Draw(image)
    lost = set()
    for each in _placed(text):
        baseline = (each.top + 0.75 * (each.bottom - each.top)) * scale
        x = each.left * scale
        word = text[each.start : each.end]
        for run, face in runs(word)[:: -1 if _from_right(word) else 1]:
            if face is None:
                lost.add(unicodedata.name(run[0], "unknown").split()[0].capitalize())
            else:
                pen.text((x, baseline), run, INK, face.at(each.font * scale), anchor="ls")
            x += _width(run, face, each.font) * scale
    if lost:
        note = f"No font here has these letters of the page: {', '.join(sorted(lost)[:6])}. Its text is whole."
        pen.text((MARGIN_PT * scale, (PAGE_HEIGHT_PT - MARGIN_PT / 2) * scale), note, INK, anchor="ls")
    return encode(image)


def _placed(text: str) -> Iterator[Placed]:
    """The words of each row from left to right."""
    line = min(_LINE_PT, (PAGE_HEIGHT_PT - 2 * MARGIN_PT) / max(1, sum(1 for _ in rows(text))))
    space = _width(" ", runs(" ")[0][1], FONT_PT)
    for row, (start, stop) in enumerate(rows(text)):
        spans = [found.span() for found in _WORD.finditer(text, start, stop)]
        if not spans:
            continue
        pieces = [text[first:last] for first, last in spans]
        widths = [sum(_width(run, face, FONT_PT) for run, face in runs(piece)) for piece in pieces]
        ends = [start, *(last for _, last in spans)]
        gaps = [
            space * len(text[end:first].replace("\t", " " * _TAB)) for end, (first, _) in zip(ends, spans, strict=False)
        ]
        natural = sum(widths) + sum(gaps)
        shrunk = min(1.0, _TEXT_PT / natural)
        order, from_right = _visual_order(pieces)
        x = MARGIN_PT + (_TEXT_PT - natural * shrunk if from_right else gaps[0] * shrunk)
        top = MARGIN_PT + row * line
        for before, index in zip([None, *order], order, strict=False):
            if before is not None:
                x += gaps[max(before, index)] * shrunk
            yield Placed(*spans[index], x, top, x + widths[index] * shrunk, top + line, FONT_PT * shrunk)
            x += widths[index] * shrunk


def _visual_order(row: Sequence[str]) -> tuple[list[int], bool]:
    """The words of a row from left to right, and whether the row as a whole begins at the right.

    This is what Unicode's bidirectional algorithm (UAX #9) comes to for whole words; the shaper does it inside of one.
    """
    said = [_from_right(word) for word in row]
    row_from_right = next((each for each in said if each is not None), False)
    directions = [row_from_right if each is None else each for each in said]
    groups = [list(group) for _, group in groupby(range(len(row)), key=directions.__getitem__)]
    ordered = [group[::-1] if directions[group[0]] else group for group in groups]
    return [index for group in (ordered[::-1] if row_from_right else ordered) for index in group], row_from_right


def _from_right(word: str) -> bool | None:
    """Whether a word runs from right to left; None where its characters do not say."""
    kinds = map(unicodedata.bidirectional, word)
    return next((kind in ("R", "AL") for kind in kinds if kind in ("R", "AL", "L", "EN", "AN")), None)


@cache
def _width(run: str, face: Face | None, font_pt: float) -> float:
    """In points; letters without a face leave a gap. Measured large, so that no width is rounded to pixels."""
    return font_pt * (len(run) if face is None else face.at(200).getlength(run) / 200)
