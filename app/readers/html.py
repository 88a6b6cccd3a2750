"""HTML: the main text of a page as Markdown, with headings, lists and tables. Nothing that it points to is fetched."""

import re
from contextlib import suppress
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.dammit import EncodingDetector
from bs4.element import Tag
from markdownify import ATX, MarkdownConverter

from app.errors import DamagedDocument
from app.readers.base import clean
from app.readers.markdown import MarkdownDocument
from app.readers.text import read_text

_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_UNREAD = "script, style, template, noscript, iframe, object, svg, nav, button, select, [hidden], [aria-hidden=true]"
_INLINE = ["a", "abbr", "b", "cite", "code", "del", "em", "font", "i", "kbd", "mark", "q", "s", "small", "strong", "u"]
"""Shown as the words in them; marks around these would break words that are bold in part."""


def open_reader(path: Path) -> MarkdownDocument:
    """Raises EmptyDocument, UnsupportedFile or DamagedDocument."""
    data = path.read_bytes()
    text, note = read_text(path)
    # What the page says counts where the bytes themselves do not tell.
    if note and (name := EncodingDetector.find_declared_encoding(data, is_html=True)):
        # One that is not known is no help.
        with suppress(LookupError):
            text, note = data.decode(name, "replace"), ""
    page = parse(text)
    title = page.title.get_text() if page.title else ""
    author = page.select_one("meta[name=author i]")
    by = str(author.get("content", "")) if author else ""
    return MarkdownDocument(to_markdown(page), note, " ".join(title.split()), clean(by))


def parse(text: str) -> BeautifulSoup:
    """The elements of a page, also of one that is not quite HTML."""
    return BeautifulSoup(_XML_DECLARATION.sub("", text), "lxml")


def to_markdown(page: BeautifulSoup) -> str:
    """The main part of a page, if it names one, or else all of its body. Raises DamagedDocument."""
    root = page.select_one("main, [role=main]") or page.body or page
    for each in root.select(_UNREAD):
        each.decompose()
    try:
        text = _CONVERTER.convert_soup(root)
    except RecursionError as error:
        raise DamagedDocument(
            "The page is nested too deeply.", "Print it as PDF in a browser, and add that."
        ) from error
    return re.sub(
        r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", text.replace("\xad", "").replace("\xa0", " "), flags=re.MULTILINE)
    ).strip()


class _Converter(MarkdownConverter):
    """With pictures as the words for them, and with bars in cells that do not end these."""

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return str(el.get("alt", ""))

    def escape(self, text: str, parent_tags: set[str]) -> str:
        return text.replace("|", "\\|") if {"td", "th"} & parent_tags else text


_CONVERTER = _Converter(
    heading_style=ATX,
    # Spaces and line ends are one space; where no width is given, no line is broken.
    wrap=True,
    wrap_width=None,
    bullets="-",
    strip=_INLINE,
    table_infer_header=True,
)
