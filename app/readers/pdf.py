"""PDF: every page is read twice, by pypdf and by PDFium; boxes, table of contents, labels and images come from PDFium.

pypdf finds the characters but places spaces and line ends by the order of drawing, which breaks words and table rows of
many files; PDFium places them by where the glyphs stand. So PDFium's text is taken where it holds what pypdf found.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import c_double, c_int
from functools import cached_property
from pathlib import Path

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.errors import DamagedDocument, EmptyDocument, PasswordNeeded, UnsupportedFile, WrongPassword
from app.readers.alignment import align
from app.readers.base import DocumentInfo, OutlineEntry, PageState, ParsedPage, Word, clean
from app.readers.image import encode

SCANNED_CHARACTERS = 20
SCANNED_COVERAGE = 0.5
MAX_IMAGE_PIXELS = 40_000_000
_HYPHEN = re.compile("[\x02\ufffe](\r\n)?")
"""PDFium's mark for a hyphen at the end of a line, which it leaves out together with the line end."""


def open_reader(path: Path, password: str | None) -> "PdfDocument":
    """Raises PasswordNeeded, WrongPassword, DamagedDocument, EmptyDocument or UnsupportedFile."""
    try:
        return PdfDocument(path, pdfium.PdfDocument(path), None)
    except pdfium.PdfiumError as error:
        if error.err_code != raw.FPDF_ERR_PASSWORD:
            raise _refusal(error) from error
    if password is None:
        raise PasswordNeeded("The PDF is encrypted.", "Give its password to read it.")
    try:
        return PdfDocument(path, pdfium.PdfDocument(path, password), password)
    except pdfium.PdfiumError as error:
        if error.err_code != raw.FPDF_ERR_PASSWORD:
            raise _refusal(error) from error
        raise WrongPassword("The password does not open the PDF.", "Check capital letters and try again.") from error


def _refusal(error: pdfium.PdfiumError) -> DamagedDocument | EmptyDocument | UnsupportedFile:
    if error.err_code == raw.FPDF_ERR_SUCCESS:
        return EmptyDocument("The PDF has no pages.", "Check that it was saved or downloaded completely.")
    if error.err_code == raw.FPDF_ERR_SECURITY:
        return UnsupportedFile("The PDF is encrypted, and not by a password.", "Ask its author for a plain copy.")
    return DamagedDocument(
        "The PDF is damaged and cannot be opened.", "Download it again, or print it as PDF in a program that shows it."
    )


def unlock(path: Path, password: str, out_path: Path) -> None:
    """Write a copy that needs no password. Raises what `open_reader` raises."""
    open_reader(path, password).document.save(out_path, flags=raw.FPDF_REMOVE_SECURITY)


_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)(\d\d)")


class PdfDocument:
    """An open PDF. `password` is None where none was needed."""

    def __init__(self, path: Path, document: pdfium.PdfDocument, password: str | None) -> None:
        self._path = path
        self.document = document
        self._password = password

    @cached_property
    def info(self) -> DocumentInfo:
        made = self.document.get_metadata_value("CreationDate")
        return DocumentInfo(
            title=clean(self.document.get_metadata_value("Title")).strip(),
            num_pages=len(self.document),
            outline=tuple(self._outline()),
            needs_password=self._password is not None,
            author=clean(self.document.get_metadata_value("Author")).strip(),
            written="-".join(date.groups()) if (date := _DATE.match(made)) else "",
        )

    def _outline(self) -> Iterator[OutlineEntry]:
        """The bookmarks that lead to a page of this document."""
        for bookmark in self.document.get_toc():
            destination = bookmark.get_dest()
            index = destination.get_index() if destination else None
            if index is not None:
                yield OutlineEntry(bookmark.level + 1, clean(bookmark.get_title()).strip(), index + 1)

    @cached_property
    def _pypdf_text(self) -> Callable[[int], str]:
        # Only for pages: importing pypdf takes longer than drawing a page.
        from app.readers.pypdf_text import page_texts

        return page_texts(self._path, self._password)

    def page(self, number: int) -> ParsedPage:
        page = self.document[number - 1]
        width, height = page.get_size()
        glyphs = page.get_textpage()
        characters = _characters(glyphs)
        text = better_text(self._pypdf_text(number), clean(_HYPHEN.sub("-\n", characters)))
        words: tuple[Word, ...] = ()
        if text and characters:
            place = _Placement(page, glyphs)
            boxes = ((word, place.box(*other)) for word, other in align(text, characters))
            words = tuple(Word(*word, *box) for word, box in boxes if box)
        label = clean(self.document.get_page_label(number - 1)).strip() or str(number)
        return ParsedPage(number, label, text, _state(text, page), width, height, words)

    def image(self, number: int, width_px: int) -> bytes:
        page = self.document[number - 1]
        width, height = page.get_size()
        scale = min(width_px / width, (MAX_IMAGE_PIXELS / (width * height)) ** 0.5)
        return encode(page.render(scale=scale).to_pil())


def _characters(glyphs: pdfium.PdfTextPage) -> str:
    """PDFium's text with exactly one character for each of its character indices."""
    count = glyphs.count_chars()
    text: str = glyphs.get_text_range() if count else ""
    if len(text) != count:
        text = "".join(chr(raw.FPDFText_GetUnicode(glyphs, index)) for index in range(count))
    return text


def better_text(text: str, laid_out: str) -> str:
    """The text of a page, from pypdf's and PDFium's.

    PDFium's, where it lacks hardly any character of pypdf's, or is longer and shares too few words with it.
    """
    characters = Counter("".join(text.split()))
    if (characters - Counter(laid_out)).total() <= 0.02 * characters.total():
        return laid_out
    words, others = Counter(text.split()), Counter(laid_out.split())
    agreement = 2 * (words & others).total() / (words.total() + others.total())
    return laid_out if agreement < 0.9 and len(laid_out) > len(text) else text


def _state(text: str, page: pdfium.PdfPage) -> PageState:
    num_characters = len("".join(text.split()))
    if num_characters >= SCANNED_CHARACTERS:
        return "ok"
    left, bottom, right, top = page.get_bbox()
    covered = 0.0
    # A scan may be cut into strips, so areas are summed up.
    for image in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]):
        x0, y0, x1, y1 = image.get_bounds()
        covered += max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
    if covered >= SCANNED_COVERAGE * (right - left) * (top - bottom):
        return "scanned"
    return "ok" if num_characters else "empty"


class _Placement:
    """Boxes of characters on the page as it is displayed: cropped, rotated, origin top-left, fractions of its size."""

    def __init__(self, page: pdfium.PdfPage, glyphs: pdfium.PdfTextPage) -> None:
        self._page = page
        self._glyphs = glyphs
        self._x, self._y = self._displayed(0.0, 0.0)
        right, up = self._displayed(1000.0, 0.0), self._displayed(0.0, 1000.0)
        self._right = (right[0] - self._x) / 1000, (right[1] - self._y) / 1000
        self._up = (up[0] - self._x) / 1000, (up[1] - self._y) / 1000

    def _displayed(self, x: float, y: float) -> tuple[float, float]:
        """A point of the page's own coordinates as fractions, by the transformation that PDFium draws with."""
        size = 1 << 24
        column, row = c_int(), c_int()
        raw.FPDF_PageToDevice(self._page, 0, 0, size, size, 0, x, y, column, row)
        return column.value / size, row.value / size

    def box(self, start: int, end: int) -> tuple[float, float, float, float] | None:
        """Around the characters `start:end` of one line; None where they stand on two lines or off the page."""
        first = last = self._character_box(start)
        if end - start > 1:
            last = self._character_box(end - 1)
        same_column = first[0] < last[2] and last[0] < first[2]
        same_row = first[1] < last[3] and last[1] < first[3]
        if not same_row and not same_column:
            return None
        left, bottom = min(first[0], last[0]), min(first[1], last[1])
        right, top = max(first[2], last[2]), max(first[3], last[3])
        (xa, ya), (xb, yb) = self._fractions(left, bottom), self._fractions(right, top)
        return None if xa == xb or ya == yb else (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))

    def _character_box(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, right and top around the ink and, in upright text, the height of the line."""
        left, right, bottom, top = c_double(), c_double(), c_double(), c_double()
        raw.FPDFText_GetCharBox(self._glyphs, index, left, right, bottom, top)
        line = raw.FS_RECTF()
        raw.FPDFText_GetLooseCharBox(self._glyphs, index, line)
        return (
            min(left.value, line.left, line.right),
            min(bottom.value, line.bottom, line.top),
            max(right.value, line.left, line.right),
            max(top.value, line.bottom, line.top),
        )

    def _fractions(self, x: float, y: float) -> tuple[float, float]:
        across = self._x + x * self._right[0] + y * self._up[0]
        down = self._y + x * self._right[1] + y * self._up[1]
        return round(min(1.0, max(0.0, across)), 5), round(min(1.0, max(0.0, down)), 5)
