"""Plain text, cut into pages of our own so that it has page numbers, word boxes and page images like a PDF."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from app.errors import EmptyDocument, UnsupportedFile
from app.readers.base import DocumentInfo, OutlineEntry, PageState, ParsedPage, clean
from app.readers.encoding import decode
from app.readers.typeset import PAGE_HEIGHT_PT, PAGE_ROWS, PAGE_WIDTH_PT, rows

PAGE_CHARACTERS = 3000


def open_reader(path: Path) -> "TextDocument":
    """Raises EmptyDocument or UnsupportedFile."""
    return TextDocument(*read_text(path))


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file, and what had to be assumed to read it. Raises UnsupportedFile where it is none."""
    decoded = decode(path.read_bytes())
    if decoded is None:
        raise UnsupportedFile("The file is no text.", "Save or export it as PDF or as text, and add that.")
    return decoded


class TextDocument:
    """A text cut into pages, which together are the whole text. A form feed begins a page, as it does for a printer."""

    title = author = ""

    def __init__(self, text: str, note: str = "") -> None:
        parts = [clean(part) for part in text.split("\f")]
        self.text = "\n".join(parts).rstrip()
        if not self.text:
            raise EmptyDocument("The file holds no text.", "Check that it was saved completely.")
        self.page_starts: list[int] = []
        start = 0
        for part in parts:
            if part.strip():
                self.page_starts.extend(start + each for each in _page_starts(part))
            start += len(part) + 1
        self.page_starts = [0, *(each for each in self.page_starts[1:] if each < len(self.text))]
        self._note = note

    @cached_property
    def info(self) -> DocumentInfo:
        return DocumentInfo(
            self.title, len(self.page_starts), tuple(self.outline()), author=self.author, note=self._note
        )

    def outline(self) -> Iterator[OutlineEntry]:
        """The headings; plain text has none."""
        yield from ()

    def page(self, number: int) -> ParsedPage:
        text = self.page_text(number)
        state: PageState = "ok" if text.strip() else "empty"
        return ParsedPage(number, str(number), text, state, PAGE_WIDTH_PT, PAGE_HEIGHT_PT, None)

    def page_text(self, number: int) -> str:
        """What stands on a page (1-based)."""
        return self.text[slice(*[*self.page_starts[number - 1 : number + 1], None][:2])]


def _page_starts(text: str) -> Iterator[int]:
    """Where pages begin: behind a paragraph where one ends near the end of a page, or else behind a line."""
    start = line_end = 0
    filled = since_line_end = 0
    yield 0
    for first, last in rows(text):
        filled += 1
        since_line_end += 1
        if text[last - 1] == "\n":
            line_end, since_line_end = last, 0
        size = last - start
        full = filled == PAGE_ROWS or size >= PAGE_CHARACTERS
        blank = size >= 0.8 * PAGE_CHARACTERS and not text[first:last].strip()
        if last < len(text) and (full or blank):
            behind_line = line_end - start >= 0.7 * size
            start, filled = (line_end, since_line_end) if behind_line else (last, 0)
            yield start
