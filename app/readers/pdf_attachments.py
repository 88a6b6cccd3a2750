"""Attachments: the files inside a PDF, named for its user and taken out one at a time, by pypdf."""

from pathlib import Path

from pypdf import PdfReader, overwrite_configuration
from pypdf.errors import LimitReachedError, PyPdfError
from pypdf.generic import EmbeddedFile

from app.errors import DamagedDocument, DocumentTooLarge
from app.readers.base import Attachment, clean

_DAMAGED = (PyPdfError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, RecursionError)
"""What pypdf raises for files that are not as they should be."""


def attachments(path: Path) -> tuple[Attachment, ...]:
    """The files inside a PDF, in its own order; one without a name has a number instead."""
    try:
        return tuple(_attachment(number, each) for number, each in enumerate(_embedded(path), 1))
    except _DAMAGED:
        return (Attachment("files whose names are damaged", 0),)


def extract(path: Path, number: int, out_path: Path, max_bytes: int) -> None:
    """Write a copy of one of them (1-based). Raises DocumentTooLarge, or DamagedDocument where it cannot be had."""
    overwrite_configuration(
        maximum_declared_stream_length=max_bytes,
        zlib_maximum_output_length=max_bytes,
        lzw_maximum_output_length=max_bytes,
        run_length_maximum_output_length=max_bytes,
        stream_decoding_work_maximum_length=4 * max_bytes,
    )
    try:
        content = _embedded(path)[number - 1].content
    except LimitReachedError as error:
        raise _too_large(max_bytes) from error
    except _DAMAGED as error:
        raise DamagedDocument(
            "The attached file is damaged and cannot be taken out.", "Save it from a PDF viewer, and add that."
        ) from error
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    out_path.write_bytes(content)


def _embedded(path: Path) -> list[EmbeddedFile]:
    return list(PdfReader(path).attachment_list)


def _attachment(number: int, embedded: EmbeddedFile) -> Attachment:
    try:
        name, size = str(embedded.alternative_name or embedded.name), int(embedded.size or 0)
    except _DAMAGED:
        name, size = "", 0
    return Attachment(" ".join(clean(name).split()) or f"file {number}", max(0, size))


def _too_large(max_bytes: int) -> DocumentTooLarge:
    return DocumentTooLarge(
        f"The attached file has more than {max_bytes / 1e6:,.0f} MB.",
        "Raise the limit with --max-upload-mb, or save the file from a PDF viewer and split it.",
    )
