"""EPUB: the chapters of a book as one text in the order of its spine, with its headings as table of contents.

The container is a ZIP archive whose META-INF/container.xml names the package document, which names the chapters
(EPUB 3.3, W3C; EPUB 2 is the same here).
"""

import posixpath
import re
import zlib
from bisect import bisect
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

from app.errors import DamagedDocument, DocumentTooLarge, UnsupportedFile
from app.readers.base import DocumentInfo, OutlineEntry, clean
from app.readers.text import TextDocument

MAX_BYTES = 32 << 20
"""Most bytes that are unpacked of one book, whose pictures and fonts are not: about ten times "War and Peace"."""
_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_FONTS_ONLY = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
"""Ways to obfuscate fonts, which are no part of the text."""
_METHOD = "{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod"
_TITLE = ".//{http://purl.org/dc/elements/1.1/}title"
_CREATOR = ".//{http://purl.org/dc/elements/1.1/}creator"
_CHAPTERS = {"application/xhtml+xml", "text/html"}
_ENCODING = re.compile(rb"\A<\?xml[^>]*encoding=[\"']([\w.-]+)")
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 header "
    "hr li main nav ol p pre section table tr ul".split()
)
_UNREAD = frozenset(("head", "script", "style", "template"))
_HEADING = re.compile("\x01([1-6])([^\x02]*)\x02")
"""A heading between marks that `clean` leaves in no text."""


def open_reader(path: Path, password: str | None) -> "EpubDocument":
    """Raises UnsupportedFile, DamagedDocument, DocumentTooLarge or EmptyDocument. A book has no password."""
    try:
        with ZipFile(path) as archive:
            book = _Book(archive)
            return EpubDocument(book.title, book.author, _tidy("\n\n".join(book.chapters())))
    except (BadZipFile, ElementTree.ParseError, EOFError, LookupError, NotImplementedError, zlib.error) as error:
        raise _damaged("it cannot be opened") from error


class EpubDocument(TextDocument):
    """A text in which headings are marked."""

    def __init__(self, title: str, author: str, marked: str) -> None:
        super().__init__(_HEADING.sub(r"\2", marked))
        self._title, self._author = title, author
        # Each heading before has three marks more.
        self._headings = [(each, each.start() - 3 * place) for place, each in enumerate(_HEADING.finditer(marked))]

    @cached_property
    def info(self) -> DocumentInfo:
        entries = ((int(each[1]), " ".join(each[2].split()), start) for each, start in self._headings)
        outline = [
            OutlineEntry(level, title, bisect(self.page_starts, start)) for level, title, start in entries if title
        ]
        return DocumentInfo(self._title, len(self.page_starts), tuple(outline), author=self._author)


class _Book:
    """The parts of an EPUB that hold its text; no more than `MAX_BYTES` of them are unpacked."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._left = MAX_BYTES
        if _ENCRYPTION in archive.namelist():
            methods = {each.get("Algorithm") for each in self._xml(_ENCRYPTION).iter(_METHOD)}
            if methods - _FONTS_ONLY:
                raise _protected()
        root = self._xml(_CONTAINER).find(".//{*}rootfile")
        self._path = root.get("full-path", "") if root is not None else ""
        if not self._path:
            raise _damaged(f"{_CONTAINER} names no package document")
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
        """The text of each chapter, its headings marked."""
        items = {each.get("id"): each for each in self._package.iterfind("{*}manifest/{*}item")}
        for reference in self._package.iterfind("{*}spine/{*}itemref"):
            item = items.get(reference.get("idref"))
            if item is None:
                raise _damaged("its spine names a part that it does not list")
            if item.get("media-type") in _CHAPTERS:
                chapter = _Chapter()
                name = posixpath.join(posixpath.dirname(self._path), unquote(item.get("href", "")))
                chapter.feed(_decoded(self._read(posixpath.normpath(name))))
                chapter.close()
                yield "".join(chapter.pieces)

    def _xml(self, name: str) -> ElementTree.Element:
        return ElementTree.fromstring(self._read(name))

    def _read(self, name: str) -> bytes:
        try:
            part = self._archive.getinfo(name)
        except KeyError as error:
            raise _damaged(f"it lacks {clean(name)[:100]}") from error
        if part.flag_bits & 1:
            raise _protected()
        self._left -= part.file_size
        if self._left < 0:
            raise DocumentTooLarge(
                f"The text of the EPUB has more than {MAX_BYTES >> 20} MB.",
                "Split the book, or check where it is from.",
            )
        with self._archive.open(part) as opened:
            # A size is given, because without one a part that is larger than it says would be unpacked to its end.
            return opened.read(part.file_size)


class _Chapter(HTMLParser):
    """The text of an XHTML document in `pieces`."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._unread = 0
        self._pre = 0
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Blocks stand apart, cells too; what follows a heading's tag is its title."""
        if tag == "body":
            self._unread = 0
        self._unread += tag in _UNREAD
        self._pre += tag == "pre"
        if tag in _BLOCKS:
            self.pieces.append("\n" if tag in ("br", "li", "tr") else "\n\n")
        elif tag in ("td", "th"):
            self.pieces.append("\t")
        if re.fullmatch("h[1-6]", tag) and not self._unread:
            self._end_heading()
            self.pieces.append(f"\x01{tag[1]}")
            self._heading = True

    def handle_endtag(self, tag: str) -> None:
        """The other way round."""
        self._unread = max(0, self._unread - (tag in _UNREAD))
        self._pre = max(0, self._pre - (tag == "pre"))
        if re.fullmatch("h[1-6]", tag):
            self._end_heading()
        if tag in _BLOCKS and tag not in ("br", "li", "tr"):
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        """Spaces and line ends in the source are one space, but where they are the author's."""
        if not self._unread:
            data = clean(data).replace("\xad", "")
            self.pieces.append(data if self._pre else re.sub(r"\s+", " ", data))

    def close(self) -> None:
        """The end of the chapter is the end of a heading that has none."""
        super().close()
        self._end_heading()

    def _end_heading(self) -> None:
        if self._heading:
            self.pieces.append("\x02")
            self._heading = False


def _decoded(data: bytes) -> str:
    """A chapter's text: UTF-16 by its mark, what its first line says, or else UTF-8. Raises LookupError."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    said = _ENCODING.match(data)
    return data.decode(said[1].decode() if said else "utf-8-sig", "replace")


def _tidy(text: str) -> str:
    """No spaces around line ends but at the beginning of lines in `pre`, and at most one blank line."""
    text = re.sub(r"[ \t]+(?=\n|\Z)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _damaged(reason: str) -> DamagedDocument:
    return DamagedDocument(f"The EPUB is damaged: {reason}.", "Download it again, or convert it to PDF and add that.")


def _protected() -> UnsupportedFile:
    return UnsupportedFile("The EPUB is protected against copying (DRM).", "Ask its seller for a plain copy.")
