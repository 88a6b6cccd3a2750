"""The text of PDF pages by pypdf, which fails in many ways on damaged files."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from app.readers.base import clean

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


def page_texts(path: Path, password: str | None) -> Callable[[int], str]:
    """The text of a page by its number; empty where pypdf fails, for there is a second reader to compare with."""
    try:
        pages = PdfReader(path, password=password).pages
    except FAILURES:
        return lambda number: ""

    def text(number: int) -> str:
        try:
            return clean(pages[number - 1].extract_text())
        except FAILURES:
            return ""

    return text
