"""Word: the text of a document with its headings, lists, tables and footnotes."""

from pathlib import Path

import mammoth

from app.readers.archive import unpacked
from app.readers.html import parse, to_markdown
from app.readers.markdown import MarkdownDocument

_STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


def open_reader(path: Path) -> MarkdownDocument:
    """Raises EmptyDocument, DamagedDocument, DocumentTooLarge or UnsupportedFile."""
    with unpacked(path, "Word file"), path.open("rb") as file:
        # Pictures may be files elsewhere, so none is opened.
        converted = mammoth.convert_to_html(file, style_map=_STYLES, convert_image=lambda image: [])
    return MarkdownDocument(to_markdown(parse(converted.value)))
