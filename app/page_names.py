"""Page names: the page that a question names, by its printed label, its number, or its place in the file."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from storage import Page

_PLACES = {
    "first": "first erste ersten première primera",
    "second": "second zweite zweiten deuxième segunda",
    "third": "third dritte dritten troisième tercera",
    "fourth": "fourth vierte vierten quatrième cuarta",
    "fifth": "fifth fünfte fünften cinquième quinta",
    "last": "last letzte letzten dernière última",
}
_NAMED = re.compile(
    r"\b(?:pages?|pp?\.?|seite|página|pagina)\s*(?:no\.?\s+|number\s+|nr\.?\s+)?"
    r"(?P<label>\(\d+\)|(?<!\w)(?:(?:[a-z]{1,2}-?)?\d+(?:-\d+)?[a-z]?|[ivxlcdm]+)\b)"
    rf"|\b(?P<place>{'|'.join(' '.join(_PLACES.values()).split())})\s+(?:page|seite|página)\b"
    r"|第\s*(?P<han>\d+)\s*页|(?:ال)?صفحة\s+(?P<arabic>\d+)",
    re.IGNORECASE,
)


class PageName(NamedTuple):
    """Characters start..end of a question that name a page, and its label as it is printed, or one of _PLACES."""

    start: int
    end: int
    label: str


def page_named(question: str) -> PageName | None:
    """The first page that a question names."""
    if (found := _NAMED.search(question)) is None:
        return None
    place = next((each for each, words in _PLACES.items() if (found["place"] or "").lower() in words.split()), "")
    label = place or found["label"] or found["han"] or found["arabic"] or ""
    return PageName(*found.span(), label.strip("()"))


def page_number(label: str, pages: Sequence[Page]) -> int:
    """The page with a printed label, whatever its case, or else in this place or of this number; 0 for none."""
    if label in _PLACES:
        place = list(_PLACES).index(label)
        found = pages[-1:] if label == "last" else pages[place : place + 1]
        return found[0].number if found else 0
    for page in pages:
        if page.label.casefold() == label.casefold():
            return page.number
    return int(label) if label.isdecimal() and 1 <= int(label) <= len(pages) else 0
