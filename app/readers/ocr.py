"""OCR: the words of a picture of a page and where they stand, by RapidOCR, whose package carries its models."""

import os
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from app.readers.base import PageState, ParsedPage, Word, clean
from app.readers.layout import Piece, Segment, regions, rows

DPI = 200
_LEAST_PX, _MOST_PX = 1000, 4000
"""Width of the picture that is looked at."""
Line = tuple[Piece, tuple[Word, ...]]
"""A line of text where it stands in pixels; its words as (start, end) in it, with boxes in fractions of the page."""


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
            _, _, x0s, y0s, x1s, y1s = zip(*words, strict=True)
            top, bottom = min(y0s) * height, max(y1s) * height
            yield Piece(text, min(x0s) * width, top, max(x1s) * width, bottom, bottom, bottom - top), tuple(words)


def _set_out(lines: Sequence[Line]) -> tuple[str, tuple[Word, ...]]:
    """Lines in the order in which they are read, those side by side on one, and an empty one between paragraphs."""
    text = ""
    words: list[Word] = []
    words_of = {id(piece): said for piece, said in lines}
    below: float | None = None
    for region in regions([Segment(piece) for piece, _ in lines], right_to_left=False):
        for row in rows(region):
            top, bottom = min(line.v0 for line in row), max(line.v1 for line in row)
            if below is not None:
                near = bottom - below > 0 and top - below < 0.7 * (bottom - top)
                text += "\n" if near else "\n\n"
            for place, line in enumerate(row):
                text += " " if place else ""
                said = words_of[id(line.main)]
                words += [Word(len(text) + each.start, len(text) + each.end, *each[2:]) for each in said]
                text += line.main.text
            below = bottom
    return text, tuple(words)
