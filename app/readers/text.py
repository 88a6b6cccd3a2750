"""Plain text, typeset on pages of our own so that it has page numbers, word boxes and page images like a PDF."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from app.errors import EmptyDocument
from app.readers.base import DocumentInfo, ParsedPage, Word, clean
from app.readers.image import encode

PAGE_CHARACTERS = 3000
PAGE_ROWS = 44
PAGE_WIDTH_PT, PAGE_HEIGHT_PT = 595.0, 842.0
MARGIN_PT = 64.0
LINE_PT = 16.0
BASELINE_PT = 12.0
FONT_PT = 11.0
INK = (34, 34, 34)
_PIECE = re.compile(r"[^\S\n]+|\S{1,40}|\n")
"""Spaces, a line end, or a word; a word that could be wider than the page comes in pieces."""


class PlacedWord(NamedTuple):
    """`text[start:end]` and where it begins and ends in its row, in points from the left margin."""

    start: int
    end: int
    left: float
    right: float


class Row(NamedTuple):
    """One typeset line. `end` is where the next row begins in the text."""

    words: tuple[PlacedWord, ...]
    end: int


def open_reader(path: Path, password: str | None) -> "TextDocument":
    """Raises EmptyDocument where there is nothing but space. A text has no password."""
    return TextDocument(clean(path.read_text("utf-8-sig")).rstrip())


class TextDocument:
    """A text cut into pages; the texts of all pages together are the whole text."""

    def __init__(self, text: str) -> None:
        if not text:
            raise EmptyDocument("The file holds no text.", "Check that it was saved completely.")
        font = ImageFont.load_default(1000)
        self._advances = {character: font.getlength(character) / 1000 * FONT_PT for character in set(text) | {" "}}
        self._advances["\t"] = 4 * self._advances[" "]
        self.text = text
        self.page_starts = [0]
        rows = 0
        for row in self._rows(text):
            rows += 1
            size = row.end - self.page_starts[-1]
            full = rows == PAGE_ROWS or size >= PAGE_CHARACTERS
            if row.end < len(text) and (full or (not row.words and size >= 0.8 * PAGE_CHARACTERS)):
                self.page_starts.append(row.end)
                rows = 0

    @cached_property
    def info(self) -> DocumentInfo:
        return DocumentInfo(title="", num_pages=len(self.page_starts), outline=())

    def page(self, number: int) -> ParsedPage:
        text = self._page_text(number)
        words = tuple(
            Word(
                word.start,
                word.end,
                round((MARGIN_PT + word.left) / PAGE_WIDTH_PT, 5),
                round((MARGIN_PT + index * LINE_PT) / PAGE_HEIGHT_PT, 5),
                round((MARGIN_PT + word.right) / PAGE_WIDTH_PT, 5),
                round((MARGIN_PT + (index + 1) * LINE_PT) / PAGE_HEIGHT_PT, 5),
            )
            for index, row in enumerate(self._rows(text))
            for word in row.words
        )
        return ParsedPage(number, str(number), text, "ok" if words else "empty", PAGE_WIDTH_PT, PAGE_HEIGHT_PT, words)

    def image(self, number: int, width_px: int) -> bytes:
        scale = width_px / PAGE_WIDTH_PT
        image = Image.new("RGB", (width_px, round(PAGE_HEIGHT_PT * scale)), "white")
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(FONT_PT * scale)
        text = self._page_text(number)
        for index, row in enumerate(self._rows(text)):
            baseline = (MARGIN_PT + index * LINE_PT + BASELINE_PT) * scale
            for word in row.words:
                x = (MARGIN_PT + word.left) * scale
                # A whole word would be drawn with its advances rounded to pixels, out of step with the layout.
                for character in text[word.start : word.end]:
                    draw.text((x, baseline), character, INK, font, anchor="ls")
                    x += self._advances[character] * scale
        return encode(image)

    def _page_text(self, number: int) -> str:
        return self.text[slice(*[*self.page_starts, None][number - 1 : number + 1])]

    def _rows(self, text: str) -> Iterator[Row]:
        """The lines of a text, broken where they are too wide. Begun at any row's start, the rest comes out alike."""
        words: list[PlacedWord] = []
        x = 0.0
        for piece in _PIECE.finditer(text):
            if piece.group() == "\n":
                yield Row(tuple(words), piece.end())
                words, x = [], 0.0
                continue
            width = sum(self._advances[character] for character in piece.group())
            if piece.group().isspace():
                x += width
                continue
            if words and x + width > PAGE_WIDTH_PT - 2 * MARGIN_PT:
                yield Row(tuple(words), piece.start())
                words, x = [], 0.0
            words.append(PlacedWord(*piece.span(), x, x + width))
            x += width
        if words:
            yield Row(tuple(words), len(text))
