"""CSV: one table, whatever character stands between its columns."""

import csv
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

from app.readers.markdown import MarkdownDocument
from app.readers.table import markdown
from app.readers.text import read_text

_BETWEEN = ",;\t|"
_ROWS_TO_TELL = 100


def open_reader(path: Path) -> MarkdownDocument:
    """Raises EmptyDocument or UnsupportedFile."""
    text, note = read_text(path)
    csv.field_size_limit(sys.maxsize)
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    rows = (row for row in csv.reader(lines, delimiter=_delimiter(lines)) if any(row))
    return MarkdownDocument(markdown(rows), note)


def _delimiter(lines: list[str]) -> str:
    """The one that cuts most of the first rows into equally many columns, and into more than one."""

    def fit(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in islice(csv.reader(lines, delimiter=delimiter), _ROWS_TO_TELL) if row)
        return max(((count, width) for width, count in widths.items() if width > 1), default=(0, 0))

    return max(_BETWEEN, key=fit)
