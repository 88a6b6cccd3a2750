"""Additions: what was filled in or noted on a page of a PDF after it was made."""

import re
from collections.abc import Iterator
from textwrap import wrap
from typing import NamedTuple

from app.readers.layout import Piece
from app.readers.pdf_glyphs import across

_SIZE = 10.0
"""Points; what is written into a tall field is no taller."""


class Addition(NamedTuple):
    """What a field of a form holds, or what somebody noted at a place of a page."""

    text: str
    rect: tuple[float, float, float, float]
    """Left, bottom, right and top in the page's own coordinates."""
    is_note: bool


def field_pieces(field: Addition, direction: int) -> Iterator[Piece]:
    """The value of a field as if it were drawn, in the frame of the page's text; long ones in lines."""
    (u0, v0), (u1, v1) = (
        map(end, *(across(x, y, direction) for x in field.rect[::2] for y in field.rect[1::2])) for end in (min, max)
    )
    size = min(_SIZE, 0.8 * (v1 - v0))
    lines = [part for line in field.text.splitlines() for part in wrap(line, max(8, int((u1 - u0) / (0.45 * size))))]
    # As tall as the lines are together, in the middle of the field.
    pitch = min(1.2 * size, (v1 - v0) / max(1, len(lines)))
    base = (v0 + v1) / 2 - pitch * (len(lines) - 1) / 2 + 0.3 * size
    for line in lines:
        width = min(0.5 * size, (u1 - u0) / len(line))
        for word in re.finditer(r"\S+", line):
            left, right = u0 + word.start() * width, u0 + word.end() * width
            yield Piece(word.group(), left, base - 0.8 * size, right, base + 0.2 * size, base, size)
        base += pitch
