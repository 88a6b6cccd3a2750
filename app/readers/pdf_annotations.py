"""What is laid upon the pages of a PDF and attached to it: filled fields, notes and files, by pypdf."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, IndirectObject, PdfObject, StreamObject

from app.readers.pdf_additions import Addition

FAILURES = (
    PyPdfError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""How pypdf fails on damaged files."""
_HIDDEN = 0b100010
_RADIO_OR_CHECK, _PUSHED, _SECRET = "/Btn", 1 << 16, 1 << 13
_NOTES = {"/Text", "/FreeText", "/Highlight", "/Underline", "/Squiggly", "/StrikeOut", "/Caret", "/Square", "/Circle"}
_DAMAGED = Addition(
    "Note: the fields and notes of this page are damaged and were not read.", (0, 0, 0, 0), is_note=True
)


def attachments(path: Path, password: str | None) -> tuple[str, ...]:
    """The names of the files inside a file."""
    try:
        return tuple(dict.fromkeys(PdfReader(path, password=password).attachments))
    except FAILURES:
        return ("files whose names are damaged",)


def additions(path: Path, password: str | None) -> Callable[[int], list[Addition]]:
    """What gives the filled fields and the notes of a page (1-based), in the order of the file.

    Where pypdf cannot read them, there is a note that says so.
    """
    try:
        pages = PdfReader(path, password=password).pages
    except FAILURES:
        return lambda number: [_DAMAGED]

    def of_page(number: int) -> list[Addition]:
        try:
            return list(_additions(pages[number - 1]))
        except FAILURES:
            return [_DAMAGED]

    return of_page


def _additions(page: PageObject) -> Iterator[Addition]:
    for reference in page.annotations or ():
        annotation = reference.get_object()
        if int(annotation.get("/F", 0)) & _HIDDEN or "/Rect" not in annotation:
            continue
        x0, y0, x1, y1 = (float(each) for each in annotation["/Rect"])
        rect = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        subtype = annotation.get("/Subtype")
        if subtype == "/Widget" and (value := _value(annotation)):
            yield Addition(value, rect, is_note=False)
        elif subtype in _NOTES and (text := _text(annotation.get("/Contents"))):
            yield Addition(f"Note: {' '.join(text.split())}", rect, is_note=True)


def _value(widget: Mapping[str, PdfObject]) -> str:
    """What a field shows: its text, its choices, or whether it is checked."""
    kind, flags, value = _inherited(widget, "/FT"), int(_inherited(widget, "/Ff") or 0), _inherited(widget, "/V")
    if kind == _RADIO_OR_CHECK:
        return "" if flags & _PUSHED else "[x]" if widget.get("/AS", value) not in (None, "/Off") else "[ ]"
    if kind == "/Ch":
        options = [_plain(each) for each in _listed(_inherited(widget, "/Opt"))]
        shown = {_text(_listed(each)[0]): _text(_listed(each)[-1]) for each in options if each}
        return ", ".join(shown.get(_text(each), _text(each)) for each in _listed(value))
    return "" if flags & _SECRET or kind != "/Tx" else _text(value)


def _inherited(widget: Mapping[str, PdfObject], key: str) -> Any:
    """An entry of a field or of the fields that it is part of."""
    for _ in range(32):
        if key in widget:
            return _plain(widget[key])
        if "/Parent" not in widget:
            return None
        widget = widget["/Parent"]  # type: ignore[assignment]
    return None


def _plain(value: PdfObject | None) -> PdfObject | None:
    return value.get_object() if isinstance(value, IndirectObject) else value


def _listed(value: PdfObject | None) -> list[PdfObject]:
    return [] if value is None else list(value) if isinstance(value, ArrayObject) else [value]


def _text(value: PdfObject | None) -> str:
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, StreamObject):
        return value.get_data().decode("utf-8", "replace").strip()
    return str(value).removeprefix("/").strip()
