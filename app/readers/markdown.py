"""Markdown: shown as the plain text it is, with its headings as title and table of contents."""

import re
from bisect import bisect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from app.readers.base import DocumentInfo, OutlineEntry, clean
from app.readers.text import TextDocument

_HEADING_OR_FENCE = re.compile(
    r"^ {0,3}(?:(?P<fence>```|~~~)|(?P<marks>#{1,6})[ \t]+(?P<title>.*?)[ \t#]*$)", re.MULTILINE
)


def open_reader(path: Path, password: str | None) -> "MarkdownDocument":
    """Raises EmptyDocument where there is nothing but space. A text has no password."""
    return MarkdownDocument(clean(path.read_text("utf-8-sig")).rstrip())


class MarkdownDocument(TextDocument):
    """A text whose lines that begin with # are headings."""

    @cached_property
    def info(self) -> DocumentInfo:
        outline = tuple(self._headings())
        return DocumentInfo(outline[0].title if outline else "", len(self.page_starts), outline)

    def _headings(self) -> Iterator[OutlineEntry]:
        """The headings outside code."""
        code = False
        for found in _HEADING_OR_FENCE.finditer(self.text):
            if found["fence"]:
                code = not code
            elif not code and found["title"]:
                yield OutlineEntry(len(found["marks"]), found["title"], bisect(self.page_starts, found.start()))
