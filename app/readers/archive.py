"""Documents that are ZIP archives of XML: what is unpacked of one is bounded, and damage is told in words."""

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile, ZipFile

from lxml.etree import LxmlError

from app.errors import DamagedDocument, DocumentTooLarge, UnsupportedFile

MAX_BYTES = 256 << 20
"""Most bytes that the text of one document unpacks to, without its pictures."""
_FAILURES = (
    *(BadZipFile, EOFError, zlib.error, ExpatError, LxmlError, SyntaxError),
    *(AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError),
)
"""Whatever a library raises about a file that is not as it should be."""
_TEXT = (".xml", ".rels", ".html", ".xhtml", ".htm", ".opf", ".ncx")


@contextmanager
def unpacked(path: Path, name: str) -> Iterator[ZipFile]:
    """An archive whose text is no larger than `MAX_BYTES`, opened for a library that trusts it.

    Raises DamagedDocument, DocumentTooLarge or UnsupportedFile, also for what goes wrong while it is open.
    """
    try:
        with ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.flag_bits & 1 for part in parts):
                raise UnsupportedFile(f"The {name} is protected by a password.", "Save it without one, and add that.")
            if sum(part.file_size for part in parts if part.filename.lower().endswith(_TEXT)) > MAX_BYTES:
                raise DocumentTooLarge(
                    f"The text of the {name} has more than {MAX_BYTES >> 20} MB.",
                    "Split the document, or check where it is from.",
                )
            yield archive
    except _FAILURES as error:
        raise damaged(name, "it cannot be opened") from error
    except OSError as error:
        # Where it says that something in it is before its beginning, or a library misses a part.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise damaged(name, "it cannot be opened") from error


def damaged(name: str, reason: str) -> DamagedDocument:
    """The error for a file that is not as its format demands."""
    return DamagedDocument(
        f"The {name} is damaged: {reason}.", "Download or save it again, or convert it to PDF and add that."
    )
