"""The formats that can be read, and how a file's own bytes tell its format."""

import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import EmptyDocument, UnsupportedFile
from app.readers.encoding import SAMPLE_BYTES, is_text


@dataclass(frozen=True)
class Format:
    """A media type and the module whose `open_reader` reads it."""

    name: str
    media_type: str
    module: str
    suffixes: tuple[str, ...]
    """File name endings. Among texts they tell one kind from another; they never make anything else of a text."""
    part: re.Pattern[bytes] | None = None
    """Of a format that is a ZIP archive: the name of the part that only it has."""
    typeset: bool = True
    """Whether its pages are made here, from text."""


def _office(folder: str, main: str) -> re.Pattern[bytes]:
    return re.compile(rb"%b/%b\d*\.xml" % (folder.encode(), main.encode()))


_OOXML = "application/vnd.openxmlformats-officedocument"
PDF = Format("PDF", "application/pdf", "app.readers.pdf", (".pdf",), typeset=False)
HTML = Format("HTML", "text/html", "app.readers.html", (".html", ".htm", ".xhtml"))
TEXT = Format("text", "text/plain", "app.readers.text", (".txt",))
READERS = (
    PDF,
    Format("Word", f"{_OOXML}.wordprocessingml.document", "app.readers.docx", (".docx",), _office("word", "document")),
    Format(
        "PowerPoint",
        f"{_OOXML}.presentationml.presentation",
        "app.readers.pptx",
        (".pptx",),
        _office("ppt", "presentation"),
    ),
    Format("Excel", f"{_OOXML}.spreadsheetml.sheet", "app.readers.xlsx", (".xlsx",), _office("xl", "workbook")),
    Format(
        "EPUB",
        "application/epub+zip",
        "app.readers.epub",
        (".epub",),
        re.compile(rb"mimetype.{0,99}application/epub\+zip", re.DOTALL),
    ),
    HTML,
    Format("CSV", "text/csv", "app.readers.csv", (".csv", ".tsv")),
    Format("Markdown", "text/markdown", "app.readers.markdown", (".md", ".markdown")),
    TEXT,
)
"""Text is last: it is every text that is not told to be another."""
NAMES = f"{', '.join(form.name for form in READERS[:-1])} or {READERS[-1].name}"
"""Of all formats, as they stand in a sentence."""
ACCEPT = ",".join((*(each for form in READERS for each in (*form.suffixes, form.media_type)), ".docpod"))
"""What a dialog that chooses files shows, as HTML writes it."""

_TAIL_BYTES = 1 << 20
"""The end of a ZIP archive, where the names of its parts stand."""
_PDF_HEADER = re.compile(rb"%PDF-\d")
_HTML_START = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html)\b", re.I | re.DOTALL
)
_OTHERS = (
    (
        rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis",
        "an OpenDocument file",
        "Save it as DOCX, XLSX, PPTX or PDF, and add that.",
    ),
    (rb"PK\x03\x04", "a ZIP archive", "Unpack it, and add the files."),
    (rb"(?:\x1f\x8b|BZh|7z\xbc\xaf|Rar!|\xfd7zXZ)", "a packed archive", "Unpack it, and add the files."),
    (
        rb"\xd0\xcf\x11\xe0",
        "an old or a protected Office file",
        "Save it as DOCX, XLSX or PPTX without a password, or as PDF, and add that.",
    ),
    (rb"\{\\rtf", "an RTF file", "Save it as DOCX or PDF, and add that."),
    (
        rb"(?:\x89PNG|\xff\xd8\xff|GIF8|II\*\x00|MM\x00\*|RIFF.{4}WEBP|BM.{4}\x00{4})",
        "a picture",
        "Save or print it as PDF, and add that.",
    ),
    (rb"(?:ID3|OggS|fLaC|RIFF|.{4}ftyp|\x1aE\xdf\xa3)", "a sound or a film", f"What can be read is {NAMES}."),
    (rb"(?:\x7fELF|MZ|\xcf\xfa\xed\xfe)", "a program", f"What can be read is {NAMES}."),
    (rb".{60}BOOKMOBI", "a Kindle book", "Convert it to EPUB, and add that."),
)
"""What else a file may be: how it begins, what to call it, and what to do."""


def by_media_type(media_type: str) -> Format:
    """The format that `sniff` told."""
    return next(form for form in READERS if form.media_type == media_type)


def sniff(path: Path, name: str = "") -> str:
    """The media type of a file, from its bytes; `name` is the user's, where the file itself has another.

    Raises EmptyDocument, or UnsupportedFile, which says what the file is instead.
    """
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    if not head:
        raise EmptyDocument("The file is empty.", "Check that it was saved or downloaded completely.")
    if _PDF_HEADER.search(head, 0, 1024):
        return PDF.media_type
    if head.startswith(b"PK\x03\x04"):
        for form in READERS:
            if form.part and (form.part.search(tail) or form.part.search(head, 0, 1024)):
                return form.media_type
    suffix = Path(name or path.name).suffix.lower()
    named = next((form for form in READERS if suffix in form.suffixes), None)
    said = f"The file is named {suffix}, but " if named else "The file "
    for begins, what, hint in _OTHERS:
        if re.match(begins, head, re.DOTALL):
            raise UnsupportedFile(f"{said}is {what}.", hint)
    if not is_text(head):
        raise UnsupportedFile(f"{said}holds no {NAMES}.", "It may be damaged: download or save it again.")
    if named and named.media_type.startswith("application/"):
        raise UnsupportedFile(
            f"{said}is plain text, no {named.name} file.",
            "If that is what you want to read, rename it to .txt; or else download or save it again.",
        )
    if named is None and _HTML_START.search(head):
        return HTML.media_type
    return (named or TEXT).media_type
