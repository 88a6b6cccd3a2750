"""The text of a page, written from its pieces in reading order, and where each of its words stands."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from app.readers.base import Word
from app.readers.bidi import are_right_to_left, logical
from app.readers.layout import (
    Line,
    Piece,
    cell_gap,
    gaps_between,
    is_right_to_left,
    paragraph_starts,
    regions,
    segments,
    table_lines,
)
from app.readers.raised import without_marks

_BROKEN = re.compile(r"[^\W_][-‐]$")
_GOES_ON = re.compile(r"[^\W_]")
_SUSPENDED = {"and", "or", "to", "und", "oder", "bis", "et", "ou", "y", "o", "e"}
"""Before these a hyphen stands for the end of a compound that comes later: "short- and long-term"."""


def write(pieces: Sequence[Piece]) -> tuple[str, list[Word]]:
    """The text of all pieces of one direction, and its words with their boxes in the frame that the pieces came in."""
    lines = list(_lines(pieces))
    written = [line for line in lines if line]
    _join_hyphens(written)
    emptied = {id(line) for line in written if not line}
    text: list[str] = []
    words: list[Word] = []
    length = 0
    for line in lines:
        if id(line) in emptied:
            continue
        for piece in line:
            length += len(piece.gap)
            end = length + len(piece.text)
            last = words[-1] if words else None
            if last and last.end == length and piece.u0 - last.x1 < piece.size and last.y0 < piece.base < last.y1:
                box = min(last.x0, piece.u0), min(last.y0, piece.v0), max(last.x1, piece.u1), max(last.y1, piece.v1)
                words[-1] = Word(last.start, end, *box)
            else:
                words.append(Word(length, end, piece.u0, piece.v0, piece.u1, piece.v1))
            text += piece.gap, piece.text
            length = end
        text.append("\n")
        length += 1
    return "".join(text).rstrip(), words


def _lines(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The lines of a page in reading order; an empty one between paragraphs."""
    last: list[Piece] = []
    right_to_left = are_right_to_left(pieces)
    for region in regions(segments(pieces), right_to_left):
        lines = table_lines(region)
        for index, (row, parted) in enumerate(zip(lines, paragraph_starts(lines), strict=True)):
            line = _line(row, right_to_left)
            # The first line of a column goes on with a sentence of the last one, or begins anew.
            if parted or (index == 0 and last and not _sentence_goes_on(last[-1].text, line[0].text)):
                yield []
            yield line
            last = line


def _sentence_goes_on(before: str, behind: str) -> bool:
    return before[-1] not in ".!?:" and behind[0].islower()


def _line(row: Line, right_to_left: bool) -> list[Piece]:
    if all(len(cell) == 1 for cell in row):
        return _items((piece for cell in row for piece in cell[0].pieces), right_to_left)
    line: list[Piece] = []
    for cell in reversed(row) if right_to_left else row:
        for place, segment in enumerate(cell):
            items = _items(segment.pieces, right_to_left)
            if line:
                items[0].gap = " " if place else cell_gap(line[-1], items[0])
            line += items
    return line


def _items(pieces: Iterable[Piece], right_to_left: bool) -> list[Piece]:
    kept = without_marks(sorted(pieces, key=lambda piece: piece.u0))
    if any(is_right_to_left(piece.text) for piece in kept):
        for piece in kept:
            # Which side of it a space was drawn on, only a word from the left tells.
            piece.space &= piece.text[-1].isalpha()
    places = {id(piece): place for place, piece in enumerate(kept)}
    gaps = ["", *gaps_between(kept), ""]
    line = logical(kept, right_to_left)
    for before, piece in pairwise(line):
        first, second = sorted((places[id(before)], places[id(piece)]))
        # Where a run of the other direction begins or ends, one of the two is inside of it.
        piece.gap = max(gaps[first + 1], gaps[second], key=len)
    return line


def _join_hyphens(lines: Sequence[list[Piece]]) -> None:
    """Bring the rest of a word that was broken at a line's end up to its beginning.

    The hyphen stays where the page has the word with it elsewhere, or both halves as words of their own.
    """
    broken = [
        (line, following)
        for line, following in pairwise(lines)
        if _BROKEN.search(line[-1].text)
        and _GOES_ON.match(following[0].text)
        and _bare(following[0].text) not in _SUSPENDED
    ]
    halves = {id(half) for line, following in broken for half in (line[-1], following[0])}
    known = {_bare(piece.text) for line in lines for piece in line if id(piece) not in halves}
    for line, following in broken:
        if not line:
            # All of it was the rest of the word above.
            continue
        head, tail = line[-1], following[0]
        begun, rest = _bare(head.text), _bare(tail.text)
        compound = f"{begun}-{rest}" in known or not (tail.text[0].islower() and head.text[-2].islower())
        if f"{begun}{rest}" in known or not (compound or known >= {begun, rest}):
            head.text = head.text[:-1]
        moved = 1
        while moved < len(following) and not following[moved].gap:
            moved += 1
        tail.gap = ""
        line += following[:moved]
        del following[:moved]
        if following:
            following[0].gap = ""


def _bare(text: str) -> str:
    """A word without its case and the punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", text).lower()
