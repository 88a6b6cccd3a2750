"""Bidi: from the order in which the pieces of a line stand to the one in which they are read (UAX 9, backwards)."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from app.readers.layout import Piece, gap_between, is_right_to_left

_LIGATURES = {"لا", "لأ", "لإ", "لآ", "لله", "الله"}
"""Those that are characters of their own, as they are read. Their letters never join in the other order."""
_NUMBER = re.compile(r"([-–.,:;!?()\[\]]*)(\d.*?)([-–.,:;!?()\[\]]*)")
_OPEN, _CLOSED = "([{«", ")]}»"
_MIRRORED = str.maketrans(_OPEN + _CLOSED, _CLOSED + _OPEN)


def logical(pieces: Sequence[Piece], right_to_left: bool) -> list[Piece]:
    """The pieces of a line, given from left to right, in the order in which they are read.

    `right_to_left`: whether the page is. A line whose ends have the same direction has that one.
    """
    kinds = [_kind(piece) for piece in pieces]
    if "R" not in kinds:
        return list(pieces)
    strong = [kind for kind in kinds if kind in "RL"]
    if strong[0] == strong[-1]:
        right_to_left = strong[0] == "R"
    ordered: list[Piece] = []
    start = 0
    while start < len(pieces):
        stop = start + 1
        if kinds[start] != "N" and (kinds[start] == "R") != right_to_left:
            stop = _run_end(pieces, kinds, start)
        ordered += reversed(pieces[start:stop])
        start = stop
    if right_to_left:
        ordered.reverse()
    for piece in ordered:
        _unfold(piece, right_to_left)
    return _with_brackets(ordered)


def _run_end(pieces: Sequence[Piece], kinds: Sequence[str], start: int) -> int:
    """Where a run ends that goes against the line; its last piece has the run's own direction."""
    end = start + 1
    for stop in range(start + 1, len(pieces)):
        close = not gap_between(pieces[stop - 1], pieces[stop])
        if kinds[start] == "E":
            # Numbers apart from each other are read from the right, as words are.
            if not close or kinds[stop] == "R":
                break
            end = stop + 1
        elif kinds[stop] == kinds[start] or (kinds[start] == "L" and kinds[stop] == "E"):
            end = stop + 1
        elif kinds[stop] in "RL":
            break
    return end


def _kind(piece: Piece) -> str:
    """R (right-to-left), L (left-to-right), E (a number) or N (takes the direction of what is around it)."""
    if is_right_to_left(piece.text):
        return "R"
    classes = {unicodedata.bidirectional(character) for character in piece.text}
    return "L" if "L" in classes else "E" if classes & {"EN", "AN"} else "N"


def _unfold(piece: Piece, right_to_left: bool) -> None:
    """Order the characters of a piece as they are read.

    Of a ligature, PDFium gives the letters as they stand, unless it is a character of its own; and in a line from the
    right what stands left of a number comes behind it.
    """
    if len(piece.text) > 1 and is_right_to_left(piece.text):
        if piece.text not in _LIGATURES:
            piece.text = piece.text[::-1]
    elif right_to_left and (match := _NUMBER.fullmatch(piece.text)):
        left, number, right = match.groups()
        piece.text = right + number + left


def _with_brackets(pieces: list[Piece]) -> list[Piece]:
    """Brackets of a right-to-left line may be told by their look: the first one must open."""
    brackets = [c for piece in pieces for c in piece.text if c in _OPEN + _CLOSED]
    if brackets and brackets[0] in _CLOSED and brackets[-1] in _OPEN:
        for piece in pieces:
            piece.text = piece.text.translate(_MIRRORED)
    return pieces


def are_right_to_left(pieces: Iterable[Piece]) -> bool:
    """Whether most letters are of scripts that are written from the right."""
    balance = 0
    for piece in pieces:
        letters = sum(c.isalpha() for c in piece.text)
        balance += letters if is_right_to_left(piece.text) else -letters
    return balance > 0
