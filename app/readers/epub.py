"""EPUB: the chapters of a book as one text in the order of its spine.

The container is a ZIP archive whose META-INF/container.xml names the package document, which names the chapters
(EPUB 3.3, W3C; EPUB 2 is the same here).
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from zipfile import ZipFile

from bs4.dammit import EncodingDetector

from app.errors import DocumentTooLarge, UnsupportedFile
from app.readers.archive import damaged, unpacked
from app.readers.base import clean
from app.readers.html import parse, to_markdown
from app.readers.markdown import MarkdownDocument

MAX_BYTES = 32 << 20
"""Most bytes that are unpacked of one book, whose pictures and fonts are not: about ten times "War and Peace"."""
_NAME = "EPUB"
_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_FONTS_ONLY = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
"""Ways to obfuscate fonts, which are no part of the text."""
_METHOD = "{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod"
_TITLE = ".//{http://purl.org/dc/elements/1.1/}title"
_CREATOR = ".//{http://purl.org/dc/elements/1.1/}creator"
_CHAPTERS = {"application/xhtml+xml", "text/html"}


def open_reader(path: Path) -> MarkdownDocument:
    """Raises UnsupportedFile, DamagedDocument, DocumentTooLarge or EmptyDocument."""
    with unpacked(path, _NAME) as archive:
        book = _Book(archive)
        text = "\n\n".join(filter(None, book.chapters()))
        return MarkdownDocument(text, title=book.title, author=book.author)


class _Book:
    """The parts of an EPUB that hold its text; no more than `MAX_BYTES` of them are unpacked."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._left = MAX_BYTES
        if _ENCRYPTION in archive.namelist():
            methods = {each.get("Algorithm") for each in self._xml(_ENCRYPTION).iter(_METHOD)}
            if methods - _FONTS_ONLY:
                raise UnsupportedFile(
                    "The EPUB is protected against copying (DRM).", "Ask its seller for a plain copy."
                )
        root = self._xml(_CONTAINER).find(".//{*}rootfile")
        self._path = root.get("full-path", "") if root is not None else ""
        if not self._path:
            raise damaged(_NAME, f"{_CONTAINER} names no package document")
        self._package = self._xml(self._path)

    @property
    def title(self) -> str:
        """Of the whole book; empty where it names none."""
        return " ".join(clean(self._package.findtext(_TITLE, "")).split())

    @property
    def author(self) -> str:
        """Everybody who made the book; empty where it names nobody."""
        return ", ".join(" ".join(clean(each.text or "").split()) for each in self._package.iterfind(_CREATOR))

    def chapters(self) -> Iterator[str]:
        """The text of each chapter as Markdown."""
        items = {each.get("id"): each for each in self._package.iterfind("{*}manifest/{*}item")}
        for reference in self._package.iterfind("{*}spine/{*}itemref"):
            item = items.get(reference.get("idref"))
            if item is None:
                raise damaged(_NAME, "its spine names a part that it does not list")
            if item.get("media-type") in _CHAPTERS:
                name = posixpath.join(posixpath.dirname(self._path), unquote(item.get("href", "")))
                yield to_markdown(parse(_decoded(self._read(posixpath.normpath(name)))))

    def _xml(self, name: str) -> ElementTree.Element:
        return ElementTree.fromstring(self._read(name))

    def _read(self, name: str) -> bytes:
        try:
            part = self._archive.getinfo(name)
        except KeyError as error:
            raise damaged(_NAME, f"it lacks {clean(name)[:100]}") from error
        self._left -= part.file_size
        if self._left < 0:
            raise DocumentTooLarge(
                f"The text of the EPUB has more than {MAX_BYTES >> 20} MB.",
                "Split the book, or check where it is from.",
            )
        with self._archive.open(part) as opened:
            # A size is given, because without one a part that is larger than it says would be unpacked to its end.
            return opened.read(part.file_size)


def _decoded(data: bytes) -> str:
    """A chapter's text: UTF-16 by its mark, what its first line says, or else UTF-8. Raises LookupError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode(EncodingDetector.find_declared_encoding(data) or "utf-8-sig", "replace")
