"""The formats that can be read, and how a file's own bytes tell its format."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from app.errors import EmptyDocument, UnsupportedFile


@dataclass(frozen=True)
class Format:
    """A media type and the module whose `open_reader` reads it. A format without `magic` is UTF-8 text."""

    name: str
    media_type: str
    module: str
    suffixes: tuple[str, ...]
    """File name endings, which only tell one kind of text from another; they never make a text of other bytes."""
    magic: re.Pattern[bytes] | None = None


_EPUB = re.compile(rb"\APK\x03\x04(?s:.{26})mimetype(?s:.{0,64}?)application/epub\+zip")
"""A ZIP archive whose first part is its media type, as EPUB demands."""
READERS = (
    Format("PDF", "application/pdf", "app.readers.pdf", (".pdf",), re.compile(rb"%PDF-\d")),
    Format("EPUB", "application/epub+zip", "app.readers.epub", (".epub",), _EPUB),
    Format("Markdown", "text/markdown", "app.readers.markdown", (".md", ".markdown")),
    Format("text", "text/plain", "app.readers.text", (".txt",)),
)
"""The last one reads every text that is not told to be another."""
NAMES = f"{', '.join(form.name for form in READERS[:-1])} or {READERS[-1].name}"
"""Of all formats, as they stand in a sentence."""
ACCEPT = ",".join(each for form in READERS for each in (*form.suffixes, form.media_type))
"""What a dialog that chooses files shows, as HTML writes it."""


def sniff(path: Path, name: str = "") -> str:
    """The media type of a file, from its bytes; `name` is the user's, where the file itself has another.

    Raises EmptyDocument or UnsupportedFile.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise EmptyDocument("The file is empty.", "Check that it was saved or downloaded completely.")
    for form in READERS:
        if form.magic and form.magic.search(head):
            return form.media_type
    if not _is_text(path):
        raise UnsupportedFile(
            f"The file is no {NAMES}.", "Save or export it as PDF, or as text in UTF-8, and add that."
        )
    suffix = Path(name or path.name).suffix.lower()
    return next((f for f in READERS if not f.magic and suffix in f.suffixes), READERS[-1]).media_type


def _is_text(path: Path) -> bool:
    """Whether all bytes are UTF-8 without NUL."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                if b"\0" in piece:
                    return False
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
