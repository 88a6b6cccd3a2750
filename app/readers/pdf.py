"""PDF: PDFium finds the glyphs, from which lines and columns are made, reads forms and notes, and draws pages."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from ctypes import c_int
from functools import cached_property, partial
from pathlib import Path

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.errors import AppError, DamagedDocument, EmptyDocument, PasswordNeeded, UnsupportedFile, WrongPassword
from app.readers import pdf_attachments, pdf_highlights
from app.readers.base import Attachment, DocumentInfo, OutlineEntry, PageState, ParsedPage, Word, clean
from app.readers.image import encode
from app.readers.page_text import write
from app.readers.pdf_additions import additions, field_pieces
from app.readers.pdf_glyphs import across, characters, is_unreadable, pieces

SCANNED_CHARACTERS = 20
SCANNED_COVERAGE = 0.5
MAX_IMAGE_PIXELS = 40_000_000


def open_reader(path: Path) -> "PdfDocument":
    """Raises PasswordNeeded, DamagedDocument, EmptyDocument or UnsupportedFile."""
    return PdfDocument(path, _opened(path))


def unlock(path: Path, password: str, out_path: Path) -> None:
    """Write a copy that needs no password. Raises WrongPassword, or what `open_reader` raises."""
    _opened(path, password).save(out_path, flags=raw.FPDF_REMOVE_SECURITY)


def extract(path: Path, number: int, out_path: Path, max_bytes: int) -> None:
    """Write a copy of an attachment, by its 1-based number. Raises DamagedDocument or DocumentTooLarge."""
    pdf_attachments.extract(path, number, out_path, max_bytes)


def highlight(path: Path, marks: Sequence[tuple[int, Sequence[pdf_highlights.Box], str]], out_path: Path) -> None:
    """Write a copy with marks: page (1-based), boxes and note of each. Raises what `open_reader` raises."""
    document = _opened(path)
    for number, boxes, note in marks:
        pdf_highlights.add(_cropped(document, number), boxes, note)
    document.save(out_path, flags=raw.FPDF_REMOVE_SECURITY)


def _cropped(document: pdfium.PdfDocument, number: int) -> pdfium.PdfPage:
    page = document[number - 1]
    if min(page.get_size()) <= 0:
        # A crop that leaves nothing of the page is not what was meant.
        page.set_cropbox(*page.get_mediabox())
        page = document[number - 1]
    return page


def _opened(path: Path, password: str | None = None) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path, password)
    except pdfium.PdfiumError as error:
        raise _refusal(error, password) from error


def _refusal(error: pdfium.PdfiumError, password: str | None) -> AppError:
    if error.err_code == raw.FPDF_ERR_PASSWORD and password is None:
        return PasswordNeeded("The PDF is encrypted.", "Give its password to read it.")
    if error.err_code == raw.FPDF_ERR_PASSWORD:
        return WrongPassword("The password does not open the PDF.", "Check capital letters and try again.")
    if error.err_code == raw.FPDF_ERR_SUCCESS:
        return EmptyDocument("The PDF has no pages.", "Check that it was saved or downloaded completely.")
    if error.err_code == raw.FPDF_ERR_SECURITY:
        return UnsupportedFile("The PDF is encrypted, and not by a password.", "Ask its author for a plain copy.")
    return DamagedDocument(
        "The PDF is damaged and cannot be opened.", "Download it again, or print it as PDF in a program that shows it."
    )


def _said(read: Callable[[], str]) -> str:
    """What a PDF says beside its pages; empty where that is no text."""
    try:
        return clean(read()).strip()
    except UnicodeDecodeError:
        return ""


_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)(\d\d)")


class PdfDocument:
    """An open PDF."""

    def __init__(self, path: Path, document: pdfium.PdfDocument) -> None:
        self._path, self.document = path, document

    @cached_property
    def info(self) -> DocumentInfo:
        title, author, made = (
            _said(partial(self.document.get_metadata_value, name)) for name in ("Title", "Author", "CreationDate")
        )
        return DocumentInfo(
            title=title,
            num_pages=len(self.document),
            outline=tuple(self._outline()),
            author=author,
            written="-".join(date.groups()) if (date := _DATE.match(made)) else "",
            attachments=self._attachments,
        )

    def _outline(self) -> Iterator[OutlineEntry]:
        """The bookmarks that lead to a page of this document."""
        for bookmark in self.document.get_toc():
            destination = bookmark.get_dest()
            index = destination.get_index() if destination else None
            if index is not None:
                yield OutlineEntry(bookmark.level + 1, _said(bookmark.get_title), index + 1)

    def page(self, number: int) -> ParsedPage:
        page = self._page(number)
        width, height = page.get_size()
        glyphs = page.get_textpage()
        drawn = characters(glyphs)
        label = clean(self.document.get_page_label(number - 1)).strip() or str(number)
        if is_unreadable(glyphs, drawn):
            return ParsedPage(number, label, "", "unreadable", width, height, ())
        directions = pieces(glyphs, drawn)
        main = max(directions, key=lambda each: len(directions[each]), default=0)
        written = _Written(page)
        added = list(additions(page))
        for field in added:
            if not field.is_note:
                directions.setdefault(main, []).extend(field_pieces(field, main))
        for direction in sorted(directions, key=lambda each: -len(directions[each])):
            written.add(direction, *write(directions[direction]))
        for note in added:
            if note.is_note:
                x0, y0, x1, y1 = note.rect
                written.add(0, note.text, [Word(0, len(note.text), x0, -y1, x1, -y0)])
        if number == 1 and (names := ", ".join(each.name for each in self._attachments)):
            written.add(0, f"Attached to this PDF and not read with it: {names}.", [])
        state = _state(written.text, page)
        return ParsedPage(number, label, written.text, state, width, height, tuple(written.words))

    @cached_property
    def _attachments(self) -> tuple[Attachment, ...]:
        # Only where there are any: importing pypdf takes longer than drawing a page.
        return pdf_attachments.attachments(self._path) if self.document.count_attachments() else ()

    def _page(self, number: int) -> pdfium.PdfPage:
        if self.document.get_formtype() and self.document.formenv is None:
            # Gives the fields, and draws them too, also those that come without a picture of their value.
            self.document.init_forms()
            raw.FPDF_SetFormFieldHighlightAlpha(self.document.formenv, 0)
        return _cropped(self.document, number)

    def image(self, number: int, width_px: int) -> bytes:
        page = self._page(number)
        width, height = page.get_size()
        scale = min(width_px / width, (MAX_IMAGE_PIXELS / (width * height)) ** 0.5)
        return encode(page.render(scale=scale).to_pil())


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


class _Written:
    """The text of a page as it grows, and its words on the page as it is displayed: cropped, rotated, from top left."""

    def __init__(self, page: pdfium.PdfPage) -> None:
        self.text = ""
        self.words: list[Word] = []
        self._page = page

    def add(self, direction: int, text: str, placed: Iterable[Word]) -> None:
        """A paragraph, whose words stand in the frame of a direction. Words off the page have no box."""
        self.text += "\n\n" * bool(self.text)
        shift = len(self.text)
        self.text += text
        origin = self._displayed(0.0, 0.0)
        along = self._displayed(*across(1000.0, 0.0, direction))
        down = self._displayed(*across(0.0, 1000.0, direction))
        axes = [(o, (a - o) / 1000, (d - o) / 1000) for o, a, d in zip(origin, along, down, strict=True)]
        for first, last, u0, v0, u1, v1 in placed:
            (x0, x1), (y0, y1) = (
                [round(min(1.0, max(0.0, o + end(a * u0, a * u1) + end(d * v0, d * v1))), 5) for end in (min, max)]
                for o, a, d in axes
            )
            if x0 < x1 and y0 < y1:
                self.words.append(Word(shift + first, shift + last, x0, y0, x1, y1))

    def _displayed(self, x: float, y: float) -> tuple[float, float]:
        """A point of the page's own coordinates as fractions, by the transformation that PDFium draws with."""
        size = 1 << 24
        column, row = c_int(), c_int()
        raw.FPDF_PageToDevice(self._page, 0, 0, size, size, 0, x, y, column, row)
        return column.value / size, row.value / size
