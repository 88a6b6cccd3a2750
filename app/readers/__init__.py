"""Turns files into pages of text with the place of every word. Knows file formats; knows no model and no database.

The files are untrusted: everything but `sniff` runs in a process with limits of its own. A format is one module with an
`open_reader(path)`, one line in `READERS`, and a reader with `info`, `page(number)` and, where
pages are not typeset here, `image(number, width_px)`.
"""

from app.readers.base import NOTE, DocumentInfo, OutlineEntry, ParsedPage, ReaderLimits, Word
from app.readers.formats import ACCEPT, NAMES, READERS, by_media_type, sniff
from app.readers.sandbox import (
    Mark,
    confinement,
    extract,
    highlight,
    open_document,
    page_image,
    recognise,
    typeset_image,
    unlock,
)
