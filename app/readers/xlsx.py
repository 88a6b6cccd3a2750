"""Excel: the sheets of a workbook as tables, each under its name."""

from collections.abc import Iterator
from datetime import datetime, time
from itertools import groupby
from pathlib import Path
from typing import Any

from openpyxl import load_workbook

from app.readers.archive import unpacked
from app.readers.markdown import MarkdownDocument
from app.readers.table import markdown


def open_reader(path: Path) -> MarkdownDocument:
    """Raises EmptyDocument, DamagedDocument, DocumentTooLarge or UnsupportedFile."""
    # As open files, because of a path it is the ending that counts.
    with unpacked(path, "Excel file"), path.open("rb") as file, path.open("rb") as again:
        values = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        formulas = load_workbook(again, read_only=True, keep_links=False)
        sheets = zip(values.worksheets, formulas.worksheets, strict=True)
        parts = [f"## {sheet.title}\n\n{_text(_rows(sheet, other))}" for sheet, other in sheets]
    document = MarkdownDocument("\n\n".join(parts))
    # The name of a sheet is not that of the document.
    document.title = ""
    return document


def _rows(sheet: Any, formulas: Any) -> Iterator[list[str]]:
    """What the cells show; a formula where the program that wrote the file left no result."""
    for each in (sheet, formulas):
        # What a file says about its size is not always so.
        each.reset_dimensions()
    for cells, others in zip(sheet.iter_rows(), formulas.iter_rows(), strict=True):
        yield [_shown(cell) or _shown(other) for cell, other in zip(cells, others, strict=True)]


def _shown(cell: Any) -> str:
    value = cell.value
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case int() | float() if "%" in (cell.number_format or ""):
            return f"{value * 100:.12g}%"
        case float():
            return f"{value:.15g}"
    return str(value)


def _text(rows: Iterator[list[str]]) -> str:
    """Tables stand apart where a row is empty; lines of one cell in front of a table are its title."""
    blocks = []
    for filled, group in groupby(rows, key=any):
        if filled:
            block = list(group)
            first = next((place for place, row in enumerate(block) if sum(map(bool, row)) > 1), len(block))
            blocks += [next(filter(None, row)) for row in block[:first]]
            blocks += [markdown(block[first:])] if block[first:] else []
    return "\n\n".join(blocks)
