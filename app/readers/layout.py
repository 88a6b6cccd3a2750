"""Layout: from pieces of text and where they stand to lines in reading order. Knows no file format.

Pieces that follow each other closely are a segment. Regions are cut along gutters between columns (a recursive XY-cut);
what is not cut is read row by row, so that a table's row stays a row.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

CELL = "  "
_GAP = 0.8
"""Of the font's size: a wider gap ends a segment."""
_SPACE = 0.2
_LETTERS, _PROSE = 0.7, 8
"""Columns of text have this share of letters; lines of so many times the font's size are no cells of a table."""
_ALIGNED = 0.35
"""From this share of common base lines on two sides may be a table's columns."""
_APART, _APART_BY = 4, 0.35
"""So many segments above or below columns may be heads that do not belong to them, where there is more room between
than lines have, by so many times the font's size."""
_PARAGRAPH, _ALONE = 1.3, 1.3
"""Of the distance between the lines around: a greater one parts paragraphs. Two lines alone go by the font's size."""
_LABEL = 24
"""Of the font's size; what is wider is a line of prose."""
_ROW_ROOM = 0.15
"""Of the font's size, is at least between rows with wrapped cells."""
_PREFIXED = re.compile(r"[$€£¥(\[]+")
"""What belongs to the number in the next cell."""
_SUFFIXED = re.compile(r"[)\]%]+[,.;]?")


@dataclass(slots=True)
class Piece:
    """Text with its box, its base line and the size of its font; `space`: it was drawn with a space behind it; `gap`:
    what separates it from the one before in its line.
    """

    text: str
    u0: float
    v0: float
    u1: float
    v1: float
    base: float
    size: float
    space: bool = False
    gap: str = ""


class Segment:
    """Pieces of one line without a wide gap between them."""

    def __init__(self, piece: Piece) -> None:
        self.pieces = [piece]
        self.u0, self.v0, self.u1, self.v1 = piece.u0, piece.v0, piece.u1, piece.v1
        self.main = piece

    def takes(self, other: "Segment | Piece") -> bool:
        """Whether the other one stands in the same line, with no wide gap between."""
        main = other.main if isinstance(other, Segment) else other
        gap = max(other.u0 - self.u1, self.u0 - other.u1)
        return -0.5 * main.size < gap < _GAP * min(self.main.size, main.size) and on_one_line(self.main, main)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Make them part of this line."""
        for piece in pieces:
            self.pieces.append(piece)
            self.u0, self.v0 = min(self.u0, piece.u0), min(self.v0, piece.v0)
            self.u1, self.v1 = max(self.u1, piece.u1), max(self.v1, piece.v1)
            if piece.size > 1.1 * self.main.size:
                self.main = piece


Line = list[list[Segment]]
"""Cells from left to right, each of one segment, or of several that stand below each other."""


def on_one_line(a: Piece, b: Piece) -> bool:
    """Whether two pieces share half of the lower one's height."""
    return min(a.v1, b.v1) - max(a.v0, b.v0) > 0.5 * min(a.v1 - a.v0, b.v1 - b.v0)


def is_right_to_left(text: str) -> bool:
    """Whether it ends with a letter of a script that is written from the right."""
    return text[-1] >= "\u0590" and unicodedata.bidirectional(text[-1]) in ("R", "AL")


def segments(pieces: Iterable[Piece]) -> list[Segment]:
    """The segments of a page: most pieces follow the one drawn before; others are fetched from elsewhere."""
    drawn: list[Segment] = []
    for piece in pieces:
        if drawn and drawn[-1].takes(piece):
            drawn[-1].add([piece])
        else:
            drawn.append(Segment(piece))
    found: list[Segment] = []
    for row in rows(drawn):
        merged: list[Segment] = []
        for segment in row:
            if merged and merged[-1].takes(segment):
                merged[-1].add(segment.pieces)
            else:
                merged.append(segment)
        found += merged
    return found


def rows(found: Iterable[Segment]) -> list[list[Segment]]:
    """Segments that share a line, from left to right; lines from the top."""
    lines: list[list[Segment]] = []
    for segment in sorted(found, key=lambda each: (each.main.base, each.u0)):
        line = next((line for line in lines[:-4:-1] if on_one_line(line[0].main, segment.main)), None)
        if line is None:
            lines.append([segment])
        else:
            line.append(segment)
    return [sorted(line, key=lambda each: each.u0) for line in lines]


def regions(found: list[Segment], right_to_left: bool) -> Iterator[list[Segment]]:
    """The segments region by region in reading order: columns from their own side of the page, rows left whole."""
    cut = _columns(found)
    if cut is None:
        yield found
        return
    above, left, right, below = cut
    for part in (above, right, left, below) if right_to_left else (above, left, right, below):
        if part:
            yield from regions(part, right_to_left)


_Cut = tuple[list[Segment], list[Segment], list[Segment], list[Segment]]


def _columns(found: list[Segment]) -> _Cut | None:
    """What is above, left of, right of and below the gutter that parts most segments."""
    if len(found) < 6:
        return None
    found = sorted(found, key=lambda each: each.v0 + each.v1)
    size = median(each.main.size for each in found)
    edges = Counter(round(each.u0 / size) for each in found)
    best: _Cut | None = None
    for edge, count in edges.items():
        if count < 2 or count + edges[edge + 1] < 3:
            continue
        x = min(each.u0 for each in found if round(each.u0 / size) == edge) - 0.05 * size
        start = 0
        for stop in (*(i for i, each in enumerate(found) if each.u0 < x < each.u1), len(found)):
            first, last = (start + index for index in _body(found[start:stop], x, size))
            start = stop + 1
            if best and last - first <= len(best[1]) + len(best[2]):
                continue
            left = [each for each in found[first:last] if each.u1 <= x]
            right = [each for each in found[first:last] if each.u0 >= x]
            if _are_columns(left, right, size):
                best = found[:first], left, right, found[last:]
    return best


def _body(found: list[Segment], x: float, size: float) -> tuple[int, int]:
    """The part of segments on both sides of x without what stands apart above or below it: heads and captions.

    Several rows on both sides have more room around them than a head.
    """
    start, stop = 0, len(found)
    left = [each for each in found if each.u1 <= x]
    room = _APART_BY * size + max(0.0, median(b.v0 - a.v1 for a, b in pairwise(left))) if len(left) > 2 else 0.0
    bottom, top = float("-inf"), float("inf")
    for index in range(1, min(_APART, stop)):
        bottom = max(bottom, found[index - 1].v1)
        if found[index].v0 - bottom > room * (1 if _is_head(found[:index], x) else 4):
            start = index
    for index in range(stop - 1, max(stop - _APART, start), -1):
        top = min(top, found[index].v0)
        if top - found[index - 1].v1 > room * (1 if _is_head(found[index:], x) else 4):
            stop = index
    return start, stop


def _is_head(found: list[Segment], x: float) -> bool:
    """Whether segments are one row, or all on one side of x."""
    if all(on_one_line(found[0].main, each.main) for each in found):
        return True
    return all(each.u0 >= x for each in found) or all(each.u1 <= x for each in found)


def _are_columns(left: list[Segment], right: list[Segment], size: float) -> bool:
    """Whether two sides are read one after the other, and not row by row as a table."""
    bases = [{round(each.main.base / (0.25 * size)) for each in side} for side in (left, right)]
    fewer, more = sorted(bases, key=len)
    if len(fewer) < 3 or min(each.u0 for each in right) - max(each.u1 for each in left) < 0.6 * size:
        return False
    top, bottom = max(left[0].v0, right[0].v0), min(left[-1].v1, right[-1].v1)
    if bottom - top < 0.5 * min(left[-1].v1 - left[0].v0, right[-1].v1 - right[0].v0):
        return False
    for side in (left, right):
        text = "".join(word for segment in side for piece in segment.pieces for word in piece.text.split())
        if sum(map(str.isalpha, text)) < _LETTERS * len(text):
            return False
    if all(median(segment.u1 - segment.u0 for segment in side) > _PROSE * size for side in (left, right)):
        return True
    common = sum(bool(more & {base - 1, base, base + 1}) for base in fewer)
    return len(fewer) > 3 and common < _ALIGNED * len(fewer)


def cell_gap(left: Piece, right: Piece) -> str:
    """What separates two cells of a row: nothing where a sign has a place of its own beside its number."""
    return "" if _PREFIXED.fullmatch(left.text) or _SUFFIXED.fullmatch(right.text) else CELL


def gap_between(left: Piece, right: Piece) -> str:
    """What separates two neighbours of a line: a wide gap, a space or nothing."""
    size = min(left.size, right.size) if 0.5 < left.size / right.size < 2 else max(left.size, right.size)
    gap = right.u0 - left.u1
    if gap >= _GAP * min(left.size, right.size):
        return cell_gap(left, right)
    return " " if gap > _SPACE * size or (left.space and gap > 0.08 * size) else ""


def gaps_between(pieces: Sequence[Piece]) -> list[str]:
    """What separates the pieces of a line from left to right; where it was stretched evenly, there are no cells."""
    gaps = [gap_between(a, b) for a, b in pairwise(pieces)]
    wide = [b.u0 - a.u1 for (a, b), gap in zip(pairwise(pieces), gaps, strict=True) if gap]
    letters = sum(character.isalpha() for piece in pieces for character in piece.text)
    if len(wide) > 2 and max(wide) < 1.2 * min(wide) and 2 * letters > sum(len(piece.text) for piece in pieces):
        return [gap and " " for gap in gaps]
    return gaps


def paragraph_starts(lines: Sequence[Line]) -> list[bool]:
    """For each line of a region whether it stands further below the last one than the lines around it do."""
    steps = [b[0][0].main.base - max(cell[-1].main.base for cell in a) for a, b in pairwise(lines)]
    near = [
        min(steps[max(0, i - 2) : i] + steps[i + 1 : i + 3], default=_ALONE * lines[i][0][0].main.size)
        for i in range(len(steps))
    ]
    return [False, *(step > _PARAGRAPH * usual for step, usual in zip(steps, near, strict=True))]


def table_lines(found: Iterable[Segment]) -> list[Line]:
    """The lines of a region from the top. Lines whose cells are wrapped come as one, if there is room around them."""
    lines: list[Line] = []
    block: list[Segment] = []
    bottom = float("-inf")
    for segment in sorted(found, key=lambda each: each.v0):
        if block and segment.v0 - bottom > _ROW_ROOM * segment.main.size:
            lines += _block_lines(block)
            block = []
        block.append(segment)
        bottom = max(bottom, segment.v1)
    joined: list[Line] = []
    for line in lines + _block_lines(block):
        if joined and _is_label_of(joined[-1], line):
            joined[-1] = [*joined[-1], *line]
        else:
            joined.append(line)
    return joined


def _is_label_of(above: Line, line: Line) -> bool:
    """Whether a line is the label of the numbers that stand to its right in the next one."""
    if len(above) > 1 or len(above[0]) > 1 or any(len(cell) > 1 for cell in line):
        return False
    label, numbers = above[0][0], [segment for cell in line for segment in cell]
    text = "".join(piece.text for segment in numbers for piece in segment.pieces)
    return (
        label.pieces[-1].text[-1].isalpha()
        and numbers[0].u0 > label.u1
        and label.u1 - label.u0 < _LABEL * label.main.size
        and 0 < numbers[0].main.base - label.main.base < 1.6 * label.main.size
        and any(map(str.isdigit, text))
        and not any(map(str.isalpha, text))
    )


def _block_lines(block: list[Segment]) -> list[Line]:
    """One line where cells are wrapped, else a line for each row."""
    columns: list[list[Segment]] = []
    right = float("-inf")
    for segment in sorted(block, key=lambda each: each.u0):
        if segment.u0 > right:
            columns.append([])
        columns[-1].append(segment)
        right = max(right, segment.u1)
    wrapped = [sorted(column, key=lambda each: each.main.base) for column in columns]
    if len(wrapped) > 1 and _are_wrapped(wrapped):
        return [wrapped]
    return [[[segment] for segment in row] for row in rows(block)]


def _are_wrapped(cells: list[list[Segment]]) -> bool:
    """Whether cells that stand side by side are one row: a long one, and others of one line or in the middle of it."""
    longest = max(cells, key=len)
    size = longest[0].main.size
    others = [cell for cell in cells if cell is not longest]
    if len(longest) < 2 or longest[0].u1 - longest[0].u0 < _PROSE * size:
        return False
    if any(not 0.5 < (b.main.base - a.main.base) / size < 1.7 for cell in cells for a, b in pairwise(cell)):
        return False
    if all(len(cell) == 1 and on_one_line(cell[0].main, longest[0].main) for cell in others):
        return True
    bases = [line.main.base for line in longest]
    return any(min(abs(cell[0].main.base - base) for base in bases) > 0.3 * size for cell in others)
