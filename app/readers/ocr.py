"""OCR: the words of a picture of a page and where they stand, by RapidOCR, whose package carries its models."""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from app.readers.base import PageState, ParsedPage, Word, clean

DPI = 200
_LEAST_PX, _MOST_PX = 1000, 4000
"""Width of the picture that is looked at."""
_GUTTER = 0.015
"""Share of the page between two columns of text, at least."""
_COLUMN = 0.15
"""Share of the page that most lines of a column take, at least; those of a table's columns are shorter."""
_FEWEST = 3
"""Lines of a column, at least."""


class Line(NamedTuple):
    """A line of text, its words as (start, end) in it with boxes, all in fractions of the page."""

    text: str
    words: tuple[Word, ...]
    x0: float
    y0: float
    x1: float
    y1: float


def width_px(width_pt: float) -> int:
    """How wide a page is drawn to be looked at; one of unknown size as if it were A4."""
    return min(_MOST_PX, max(_LEAST_PX, round((width_pt or 595) / 72 * DPI)))


def read_page(number: int, picture: bytes) -> ParsedPage:
    """The text of a page, given by its picture; `empty` where no words are found."""
    with Image.open(BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width, _ = pixels.shape
    text, words = _set_out(list(_lines(_engine()(pixels, return_word_box=True), width, height)))
    state: PageState = "ok" if words else "empty"
    return ParsedPage(number, "", text, state, width / DPI * 72, height / DPI * 72, words)


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    if hasattr(os, "nice"):
        # Questions go first.
        os.nice(10)
    return RapidOCR(params={"Global.use_cls": False, "Global.log_level": "error"})


def _lines(result: Any, width: int, height: int) -> Iterator[Line]:
    for said, parts in zip(result.txts or (), result.word_results or (), strict=False):
        text = " ".join(clean(said).split())
        words, at = [], 0
        for part, _, corners in parts:
            start = text.find(part, at)
            if start < 0 or not part.strip():
                continue
            at = start + len(part)
            xs, ys = [x / width for x, _ in corners], [y / height for _, y in corners]
            x0, y0, x1, y1 = (round(min(1.0, max(0.0, each)), 5) for each in (min(xs), min(ys), max(xs), max(ys)))
            words.append(Word(start, at, x0, y0, x1, y1))
        if words:
            sides = list(zip(*words, strict=True))[2:]
            yield Line(text, tuple(words), min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3]))


def _set_out(lines: Sequence[Line]) -> tuple[str, tuple[Word, ...]]:
    """Lines in the order in which they are read, those side by side on one, and an empty one between paragraphs."""
    text = ""
    words: list[Word] = []
    below: float | None = None
    for block in _blocks(list(lines)):
        for row in _rows(block):
            top, bottom = min(line.y0 for line in row), max(line.y1 for line in row)
            if below is not None:
                near = bottom - below > 0 and top - below < 0.7 * (bottom - top)
                text += "\n" if near else "\n\n"
            for place, line in enumerate(row):
                text += " " if place else ""
                words += [Word(len(text) + each.start, len(text) + each.end, *each[2:]) for each in line.words]
                text += line.text
            below = bottom
    return text, tuple(words)


def _blocks(lines: list[Line]) -> list[list[Line]]:
    """Columns one behind the other, by cutting the page where nothing stands (XY-cut)."""
    if len(lines) < 2 * _FEWEST:
        return [lines]
    left, right = _cut(lines, 0, _GUTTER)
    if min(len(left), len(right)) >= _FEWEST and all(
        median(line.x1 - line.x0 for line in side) >= _COLUMN for side in (left, right)
    ):
        return [*_blocks(left), *_blocks(right)]
    top, bottom = _cut(lines, 1, 0.0)
    return [*_blocks(top), *_blocks(bottom)] if bottom else [top]


def _cut(lines: list[Line], axis: int, least: float) -> tuple[list[Line], list[Line]]:
    """Lines before and behind the widest gap along an axis (0 across, 1 down); all before, where none is so wide."""
    ends = [(line.x0, line.x1) if axis == 0 else (line.y0, line.y1) for line in lines]
    order = sorted(range(len(lines)), key=ends.__getitem__)
    widest, at, covered = least, 0, 0.0
    for place, index in enumerate(order):
        start, end = ends[index]
        if place and start - covered > widest:
            widest, at = start - covered, place
        covered = max(covered, end)
    ordered = [lines[index] for index in order]
    return (ordered[:at], ordered[at:]) if at else (ordered, [])


def _rows(lines: list[Line]) -> list[list[Line]]:
    """Lines that stand side by side, from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda each: each.y0 + each.y1):
        middle = (line.y0 + line.y1) / 2
        if rows and rows[-1][0].y0 < middle < rows[-1][0].y1:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [sorted(row, key=lambda each: each.x0) for row in rows]
