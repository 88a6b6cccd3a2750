"""Highlights: passages marked on the pages of a PDF, each with a note, by PDFium, which knows how pages are shown."""

from collections.abc import Sequence
from ctypes import c_double, c_ushort

import pypdfium2 as pdfium
from pypdfium2 import raw

Box = tuple[float, float, float, float]
_YELLOW = 255, 214, 51, 255
_SIZE = 1 << 24
"""Pixels of an imagined device: a fraction of the page is one of them, by far fine enough."""
_PRINTED = 4
"""Annotation flag Print (ISO 32000-1, table 165)."""


def add(page: pdfium.PdfPage, boxes: Sequence[Box], note: str) -> None:
    """Mark boxes (fractions of the page as it is displayed, origin top-left) in one highlight annotation (ISO 32000-1,
    12.5.6.10); a passage without a place on the page has a note in its corner.
    """
    kind = raw.FPDF_ANNOT_HIGHLIGHT if boxes else raw.FPDF_ANNOT_TEXT
    annotation = raw.FPDFPage_CreateAnnot(page, kind)
    raw.FPDFAnnot_SetFlags(annotation, _PRINTED)
    raw.FPDFAnnot_SetColor(annotation, raw.FPDFANNOT_COLORTYPE_Color, *_YELLOW)
    corners = []
    for x0, y0, x1, y1 in boxes or [(0.01, 0.01, 0.04, 0.03)]:
        quad = [_point(page, *corner) for corner in ((x0, y0), (x1, y0), (x0, y1), (x1, y1))]
        if boxes:
            points = raw.FS_QUADPOINTSF(*(edge for point in quad for edge in point))
            raw.FPDFAnnot_AppendAttachmentPoints(annotation, points)
        corners += quad
    across, up = zip(*corners, strict=True)
    raw.FPDFAnnot_SetRect(annotation, raw.FS_RECTF(min(across), max(up), max(across), min(up)))
    for key, value in ((b"Contents", note), (b"T", "DocPod")):
        units = f"{value}\0".encode("utf-16-le")
        raw.FPDFAnnot_SetStringValue(annotation, key, (c_ushort * (len(units) // 2)).from_buffer_copy(units))
    raw.FPDFPage_CloseAnnot(annotation)


def _point(page: pdfium.PdfPage, x: float, y: float) -> tuple[float, float]:
    """Fractions of the displayed page as a point of its own coordinates: the way back of how PDFium draws it."""
    across, up = c_double(), c_double()
    raw.FPDF_DeviceToPage(page, 0, 0, _SIZE, _SIZE, 0, round(x * _SIZE), round(y * _SIZE), across, up)
    return across.value, up.value
