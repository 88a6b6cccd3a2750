"""What a reader gives: the pages of a document as text, with the place of every word. Knows no file format."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NamedTuple

NOTE = "Note: "
"""What somebody noted on a page begins so in its text."""

PageState = Literal["ok", "empty", "scanned", "unreadable"]


class Word(NamedTuple):
    """`text[start:end]` of a page, and its box in fractions of the page as it is displayed, origin top-left."""

    start: int
    end: int
    x0: float
    y0: float
    x1: float
    y1: float


class OutlineEntry(NamedTuple):
    """A line of the table of contents; level 1 is the outermost, pages count from 1."""

    level: int
    title: str
    page: int


class Attachment(NamedTuple):
    """A file inside the file, and its size as the outer one says; 0 where it does not."""

    name: str
    num_bytes: int


@dataclass(frozen=True)
class ParsedPage:
    """One page. A word without an entry in `words` has no known place; `label` is the printed page number."""

    number: int
    label: str
    text: str
    state: PageState
    """ok, empty (no text), scanned (a picture of text) or unreadable."""
    width_pt: float
    height_pt: float
    words: tuple[Word, ...] | None
    """None on a page that is typeset here: its words are where `typeset.words` says."""


@dataclass(frozen=True)
class DocumentInfo:
    """What is known before any page is read. `title` is empty where the file names none."""

    title: str
    num_pages: int
    outline: tuple[OutlineEntry, ...]
    note: str = ""
    """What a user should know about how the file was read, in whole sentences."""
    author: str = ""
    """Empty where the file names none."""
    written: str = ""
    """As YYYY-MM-DD; empty where the file gives no date for itself."""
    attachments: tuple[Attachment, ...] = ()
    """Files inside the file, which are no pages of it."""


@dataclass(frozen=True)
class ReaderLimits:
    """What one document may cost."""

    max_pages: int = 100_000
    page_seconds: float = 20.0
    """Processor seconds for one page, for opening the document, and for one page image."""
    convert_seconds: float = 120.0
    """Processor seconds for converting a document that is typeset here, and for OCR of one page."""
    memory_bytes: int = 4 << 30
    """Address space of the reading process."""
    batch_pages: int = 500
    """Pages after which a fresh process goes on, so that caches of a library cannot fill the memory."""
    max_failures: int = 20
    """Pages that may stop the reading process before the rest of the document is called unreadable."""


DEFAULT_LIMITS = ReaderLimits()


_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]")


def clean(text: str) -> str:
    """Text without control characters, non-characters and lone surrogates, with newlines as the only line ends and
    letters in one piece with their accents."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = re.sub(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text)
    return unicodedata.normalize("NFC", _CONTROLS.sub("", text))
