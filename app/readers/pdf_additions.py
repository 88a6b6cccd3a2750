"""Additions: what was filled in or noted on a page of a PDF after it was made."""

import re
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_ushort, cast, create_string_buffer
from textwrap import wrap
from typing import Any, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.readers.base import NOTE
from app.readers.layout import Piece
from app.readers.pdf_glyphs import across

_SIZE = 10.0
"""Points; what is written into a tall field is no taller."""
_HIDDEN = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
_SECRET = raw.FPDF_FORMFLAG_TEXT_PASSWORD
_CHECKED = {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}
_CHOSEN = {raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}
_NOTES = {
    raw.FPDF_ANNOT_TEXT,
    raw.FPDF_ANNOT_FREETEXT,
    raw.FPDF_ANNOT_HIGHLIGHT,
    raw.FPDF_ANNOT_UNDERLINE,
    raw.FPDF_ANNOT_SQUIGGLY,
    raw.FPDF_ANNOT_STRIKEOUT,
    raw.FPDF_ANNOT_CARET,
    raw.FPDF_ANNOT_SQUARE,
    raw.FPDF_ANNOT_CIRCLE,
    raw.FPDF_ANNOT_LINE,
    raw.FPDF_ANNOT_POLYGON,
    raw.FPDF_ANNOT_POLYLINE,
    raw.FPDF_ANNOT_INK,
    raw.FPDF_ANNOT_STAMP,
    raw.FPDF_ANNOT_FILEATTACHMENT,
}


class Addition(NamedTuple):
    """What a field of a form holds, or what somebody noted at a place of a page."""

    text: str
    rect: tuple[float, float, float, float]
    """Left, bottom, right and top in the page's own coordinates; that of a note may be empty."""
    is_note: bool


def additions(page: pdfium.PdfPage) -> Iterator[Addition]:
    """The filled fields and the notes of a page, in the order of the file."""
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        subtype, rect = raw.FPDFAnnot_GetSubtype(annotation), raw.FS_RECTF()
        raw.FPDFAnnot_GetRect(annotation, byref(rect))
        place = rect.left, rect.bottom, rect.right, rect.top
        if not raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
            seen = rect.left < rect.right and rect.bottom < rect.top
            if subtype == raw.FPDF_ANNOT_WIDGET and page.formenv:
                if seen and (value := _value(page.formenv, annotation)):
                    yield Addition(value, place, is_note=False)
            elif subtype in _NOTES and (text := _text(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")):
                yield Addition(NOTE + " ".join(text.split()), place, is_note=True)
        raw.FPDFPage_CloseAnnot(annotation)


def _value(form: pdfium.PdfFormEnv, widget: raw.FPDF_ANNOTATION) -> str:
    """What a field shows: its text, its choices, or whether it is checked."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, widget)
    value = _text(raw.FPDFAnnot_GetFormFieldValue, form, widget)
    if kind in _CHECKED:
        state = _text(raw.FPDFAnnot_GetStringValue, widget, b"AS") or value
        return "[ ]" if state in ("", "Off") else "[x]"
    if kind in _CHOSEN:
        options = range(raw.FPDFAnnot_GetOptionCount(form, widget))
        chosen = [each for each in options if raw.FPDFAnnot_IsOptionSelected(form, widget, each)]
        return ", ".join(_text(raw.FPDFAnnot_GetOptionLabel, form, widget, each) for each in chosen) or value
    secret = raw.FPDFAnnot_GetFormFieldFlags(form, widget) & _SECRET
    return "" if secret or kind != raw.FPDF_FORMFIELD_TEXTFIELD else value


def _text(get: Callable[..., int], *of: Any) -> str:
    """What a function of PDFium writes into a buffer of which it first tells the size."""
    size = get(*of, None, 0)
    buffer = create_string_buffer(size)
    get(*of, cast(buffer, POINTER(c_ushort)), size)
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0").strip()


def field_pieces(field: Addition, direction: int) -> Iterator[Piece]:
    """The value of a field as if it were drawn, in the frame of the page's text; long ones in lines."""
    (u0, v0), (u1, v1) = (
        map(end, *(across(x, y, direction) for x in field.rect[::2] for y in field.rect[1::2])) for end in (min, max)
    )
    size = min(_SIZE, 0.8 * (v1 - v0))
    lines = [part for line in field.text.splitlines() for part in wrap(line, max(8, int((u1 - u0) / (0.45 * size))))]
    # As tall as the lines are together, in the middle of the field.
    pitch = min(1.2 * size, (v1 - v0) / max(1, len(lines)))
    base = (v0 + v1) / 2 - pitch * (len(lines) - 1) / 2 + 0.3 * size
    for line in lines:
        width = min(0.5 * size, (u1 - u0) / len(line))
        for word in re.finditer(r"\S+", line):
            left, right = u0 + word.start() * width, u0 + word.end() * width
            yield Piece(word.group(), left, base - 0.8 * size, right, base + 0.2 * size, base, size)
        base += pitch
