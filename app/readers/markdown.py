"""Markdown: shown as the plain text it is, with its headings as title and table of contents."""

import re
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path

from app.readers.base import OutlineEntry
from app.readers.text import TextDocument, read_text

_HEADING_OR_FENCE = re.compile(
    r"^ {0,3}(?:(?P<fence>```|~~~)|(?P<marks>#{1,6})[ \t]+(?P<title>.*?)[ \t#]*$"
    r"|(?P<above>[^\s|>#-].*)\n {0,3}(?P<line>=+|--+)[ \t]*$)",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"\A---\n(?:.*\n)*?(?:---|\.\.\.)\n")
_TABLE = re.compile(r"^(\|.*\n\|[-:| ]+\|?[ \t]*\n)(?:\|.*\n?)*+", re.MULTILINE)
"""Rows that begin with a bar, of which the first are the heads (1)."""


def open_reader(path: Path) -> "MarkdownDocument":
    """Raises EmptyDocument or UnsupportedFile."""
    return MarkdownDocument(*read_text(path))


class MarkdownDocument(TextDocument):
    """A text with headings. A table that goes on over pages has its heads on top of each."""

    def __init__(self, text: str, note: str = "", title: str = "", author: str = "") -> None:
        super().__init__(text, note)
        self.author = author
        self._tables = [(found.start(), found.end(), found[1]) for found in _TABLE.finditer(self.text)]
        first = next(self.outline(), None)
        self.title = title or (first.title if first else "")

    def page_text(self, number: int) -> str:
        """What stands on a page, under the heads of the table that it begins in."""
        start = self.page_starts[number - 1]
        place = bisect(self._tables, start, key=lambda table: table[0]) - 1
        text = super().page_text(number)
        if place >= 0:
            begin, end, heads = self._tables[place]
            if begin + len(heads) <= start < end and self.text[start - 1] == "\n":
                return heads + text
        return text

    def outline(self) -> Iterator[OutlineEntry]:
        """The headings outside code."""
        front = _FRONT_MATTER.match(self.text)
        code = False
        for found in _HEADING_OR_FENCE.finditer(self.text, front.end() if front else 0):
            if found["fence"]:
                code = not code
            elif not code and (title := found["title"] or found["above"]):
                level = len(found["marks"]) if found["marks"] else 1 + found["line"].startswith("-")
                yield OutlineEntry(level, title.strip(), bisect(self.page_starts, found.start()))
