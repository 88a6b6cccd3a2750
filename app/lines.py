"""Lines: which lines of a page go on in the next one, which are rows of a table, and what they stand below."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby

_CELL = r"[-–—(]?\s?[$€£¥]?\s?\(?[-−]?\d[\d,.]*\)?\s?%?\)?"
_ROW = re.compile(rf"[^\W\d_].*?[\s:](?P<cells>{_CELL}(?:\s+(?:{_CELL}|[-–—]))*)\s*$")
_YEARS = re.compile(r"(?:[^\d\n]{0,40}(?:\b\d\d?,?\s)?\s*\b(?:1[89]|20)\d\d\b){2,}[^\d\n]{0,12}$")
"""A line of years or dates, which heads the columns below it."""
_YEARS_ONLY = re.compile(r"\b(?:1[89]|20)\d\d\b")
_PIPED = re.compile(r"\s*\|.*\|\s*")
"""A row of a table in Markdown."""
_RULE = re.compile(r"^\s*\|(?:\s*:?-+:?\s*\|)+\s*$", re.MULTILINE)
"""The line below the heads of its columns."""
CELLS = re.compile(r"(?<![.!?:;,])(?: {2,}|\t+)(?=\S)")
"""What parts the cells of a row that is set in columns."""
UNIT = r"(?:\s?(?:[^\W\d_]|[°µ])[^\s\d]{0,15})"
"""A word of what a figure is in."""
_VALUE = re.compile(rf"{_CELL}{UNIT}{{0,3}}")
"""A figure with its unit."""
_LEAST_VALUES = 3
"""Of so many lines that follow each other with a label and a value, each is a row."""
_ITEM = re.compile(r"\s*(?:[•▪◦●○■□§‣⁃∙·*–—-]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s|[QA][:.]\s)")
_LABEL = re.compile(r"\s*[^\W\d_][^:.\n]{0,48}(?:(?<!\d):|:(?!\d))")
_SENTENCE_END = re.compile(r"[.!?;,。！？؟।…][\"'”’»)\]]*\s*$")
_WIDE = 0.75
"""A line this much narrower than the lines around it, with the next line's first word, ended where it was meant to."""
_HEAD_CHARS = 100
_NEAR = 2
"""Headings that count for what stands below them, beside the page's first and the heads of columns."""


class Line(Enum):
    """What a line is."""

    PROSE = auto()
    HEAD = auto()
    """Short, and no sentence: a heading, a caption, or the heads of columns."""
    ROW = auto()
    """Words and then figures."""


@dataclass(frozen=True)
class Block:
    """Lines that belong together, characters start..end; `above` are the lines that say what they are about."""

    start: int
    end: int
    kind: Line
    above: str


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page in order: paragraphs, list items, headings and rows."""
    lines = [(match.start(), match.end()) for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    widths = [len(text[start:end].strip()) for start, end in lines]
    usual = sorted(widths)[int(0.9 * len(widths))] if widths else 0
    rows = _set_in_columns(text, lines)
    title, near, columns = "", [""], ""
    first, was = 0, Line.PROSE
    for number, (_, end) in enumerate(lines):
        if number + 1 < len(lines):
            wide = _WIDE * max(*widths[max(0, number - 3) : number + 4], 0.6 * usual)
            in_columns = rows[number] or rows[number + 1]
            if not in_columns and not _ends(text, lines[number : number + 3], wide):
                continue
        own = text[lines[first][0] : end]
        if _RULE.search(own):
            # It says what stands in the rows below, and is quoted with each of them; where none is, or where it has
            # figures, as in a table without heads, it is a row itself.
            columns, start, stop = own.split("\n")[0].strip(), *lines[first]
            has_rows = number + 1 < len(lines) and _PIPED.fullmatch(text[slice(*lines[number + 1])])
            if not has_rows or re.search(r"\d", _YEARS_ONLY.sub("", columns)):
                yield Block(start, stop, Line.ROW, "\n".join(dict.fromkeys(filter(None, (title, *near)))))
            first = number + 1
            continue
        kind = rows[number] or _kind(own, single=first == number)
        yield Block(lines[first][0], end, kind, "\n".join(dict.fromkeys(filter(None, (title, *near, columns)))))
        first = number + 1
        if kind is Line.PROSE and not _ITEM.match(own):
            columns = ""
        elif kind is Line.HEAD and _YEARS.fullmatch(own.strip()):
            columns = own.strip()
        elif kind is Line.HEAD:
            # Headings that follow each other go together.
            title = title or own.strip()
            near = [*(near if was is Line.HEAD else []), own.strip()][-_NEAR:]
        was = kind


def _set_in_columns(text: str, lines: Sequence[tuple[int, int]]) -> list[Line | None]:
    """Of each line whether it is a row, or has the heads, of words in columns, as many as in the line beside it; or one
    of labels with their values, which have units, or a table of contents would be one."""
    cells: list[list[str]] = [CELLS.split(text[start:end].strip()) for start, end in lines]
    counts = [0 if _kind(" ".join(each), single=True) is Line.ROW else len(each) for each in cells]
    beside = [
        one == other > 2 and text.count("\n", line[1], following[0]) == 1
        for one, other, line, following in zip(counts, counts[1:], lines, lines[1:], strict=False)
    ]
    found: list[Line | None] = []
    for before, behind, own in zip([False, *beside], [*beside, False], cells, strict=False):
        has_heads = behind and not before and not re.search(r"\d", "".join(own))
        found.append(Line.HEAD if has_heads else Line.ROW if before or behind else None)
    valued = [len(each) == 2 and _VALUE.fullmatch(each[1]) is not None for each in cells]
    for is_run, run in groupby(range(len(lines)), valued.__getitem__):
        numbers = list(run)
        if is_run and len(numbers) >= _LEAST_VALUES and not all(cells[n][1].isdigit() for n in numbers):
            found[numbers[0] : numbers[-1] + 1] = [Line.ROW] * len(numbers)
    return found


def _kind(text: str, single: bool) -> Line:
    text = text.strip()
    if _PIPED.match(text):
        return Line.ROW
    if _YEARS.fullmatch(text) and len(text) <= _HEAD_CHARS:
        return Line.HEAD
    if len(text) > _HEAD_CHARS or not any(map(str.isalpha, text)):
        cells = (_ROW.fullmatch(text) or {"cells": ""})["cells"].split()
        return Line.ROW if single and len(cells) > 1 else Line.PROSE
    if (row := _ROW.fullmatch(text)) and (len(row["cells"].split()) > 1 or re.search(r"\d[,.]\d|[%$€£]", row["cells"])):
        return Line.ROW
    if _ITEM.match(text) or _SENTENCE_END.search(text) or (_LABEL.match(text) and not text.isupper()):
        return Line.HEAD if text[-1] in ":：" else Line.PROSE
    return Line.HEAD


def _ends(text: str, lines: Sequence[tuple[int, int]], wide: float) -> bool:
    """Whether something new begins on the second of two or three lines."""
    line, following, *third = lines
    own, behind = text[slice(*line)].strip(), text[slice(*following)].strip()
    if _PIPED.fullmatch(own) or _PIPED.fullmatch(behind):
        return not _RULE.fullmatch(behind)
    if text.count("\n", line[1], following[0]) > 1 or _ITEM.match(behind):
        return True
    if _YEARS.fullmatch(own) or _YEARS.fullmatch(behind):
        return True
    goes_on = behind[0].islower()
    if _kind(behind, single=True) is Line.ROW and not goes_on:
        return True
    # A full line of a sentence may end with a figure, too.
    if _kind(own, single=True) is Line.ROW and not (
        goes_on and len(own) >= wide and _kind(behind, single=True) is not Line.ROW
    ):
        return True
    # One label may be words of a sentence, two are a list of values.
    is_label = len(own) < wide or _LABEL.match(own) or any(_LABEL.match(text, *each) for each in third)
    if is_label and _LABEL.match(behind) and not behind[0].islower():
        return True
    if (
        own[-1] in ".!?。？！"
        and len(behind) < wide
        and _kind(behind, single=True) is Line.HEAD
        and not behind[0].islower()
    ):
        return True
    word = re.match(r"\S+", behind)
    return len(own) + 1 + min(len(word[0]) if word else 0, 12) < wide
