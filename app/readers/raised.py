"""Raised characters: footnote marks, which are left out of the text, and exponents and endings, which belong to it."""

import re
from collections import Counter
from collections.abc import Sequence

from app.readers.layout import Piece, gap_between

_SIGN = r"[(\[]?(?:[A-Z]{0,2}\d{1,3}|[*†‡§¶#]{1,3}|[a-z])[)\]]?"
_MARK = re.compile(rf"{_SIGN}(?:[,;–-]{_SIGN})*[,;]?|(?:[(\[]\w{{1,3}}[)\]])+")
_ENDING = re.compile(r"st|nd|rd|th|er|re|e|o|a|TM|SM")
_OPERATORS = "=+−×*/^·÷<>≤≥±"
_SCALE = re.compile(r"(?:[×x·*]\s*|^)10$")
_SYMBOL = re.compile(r"(?<![\w’'])(?:[A-Za-zα-ωΑ-Ω]|[A-Z][a-z])$")
_UNIT = re.compile(r"\d\s*(?:ft|in|yd|mi)$|\b(?:mm|cm|dm|km)$")


def without_marks(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces of a line from left to right without its footnote marks; an exponent of a number gets a "^"."""
    weights: Counter[float] = Counter()
    for piece in pieces:
        weights[piece.size] += len(piece.text)
    size = max(weights, key=lambda each: (weights[each], each))
    base = next(piece.base for piece in pieces if piece.size == size)
    kept: list[Piece] = []
    before = ""
    for index, piece in enumerate(pieces):
        if piece.size < 0.85 * size and base - piece.base > 0.1 * size:
            if not kept or piece.u0 - kept[-1].u1 > 0.5 * size:
                # The number of a footnote in front of it.
                piece.space = True
            elif piece.size > 0.85 * kept[-1].size:
                # Small text beside large text.
                pass
            elif _is_mark(before, piece.text, "".join(each.text for each in pieces[index + 1 : index + 2])):
                # Where it stood is no gap between what is left.
                kept[-1].space |= piece.space
                kept[-1].u1 = max(kept[-1].u1, piece.u1)
                continue
            elif before[-1].isdigit() and piece.text.strip("−-+").isdigit():
                piece.text = "^" + piece.text
        if kept:
            before += gap_between(kept[-1], piece)
        before += piece.text
        kept.append(piece)
    return kept


def _is_mark(before: str, text: str, behind: str) -> bool:
    """Whether raised text between two others leads to a footnote."""
    if not _MARK.fullmatch(text):
        return False
    if not before[-1].isdigit():
        return not (_SYMBOL.search(before) or _UNIT.search(before))
    around = before.rstrip("0123456789., ")[-1:] + behind[:1]
    return not (_ENDING.fullmatch(text) or _SCALE.search(before) or any(c in _OPERATORS for c in around))
