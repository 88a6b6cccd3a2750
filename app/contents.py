"""Contents: the chapters of a document, from its bookmarks, its printed table of contents, or its headings."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from app.number_words import NUMBER_WORDS
from app.passages import Passage
from storage import Page

Entry = tuple[int, str, int]
"""Level from 1, title, and number of the page."""

_HEAD = re.compile(
    r"^\W*(?:(?:tableof)?contents|inhalt(?:sverzeichnis)?|sommaire|tabledesmatières|[ií]ndice|目录|(?:ال)?فهرس)\W*$",
    re.IGNORECASE | re.MULTILINE,
)
_LINE = re.compile(
    r"^[ \t]*(?P<title>[^\n]*?[^\W\d_][^\n]*?)(?:\s*(?P<dots>(?:[.·…_][ \t]?){3,})\s*|[ \t]{2,})"
    r"(?P<label>\d{1,4}|[ivxlc]+)[ \t]*$",
    re.MULTILINE,
)
"""A title, dots or a gap, and the number of a page."""
_LABEL = re.compile(r"[ \t.·…_](?:\d{1,4}|[ivxlc]+)[ \t]*$", re.MULTILINE)
"""How each such line ends, which is found far sooner."""
_CHAPTER = re.compile(r"(?:chapter|kapitel|chapitre|cap[ií]tulo)\s+[\divxlc]+|第.{1,3}章|\d+[.:)]?\s", re.IGNORECASE)
_PART = re.compile(
    r"(?:chapter|kapitel|chapitre|cap[ií]tulo|part|teil|partie|parte|section|abschnitt|appendix|anhang|annexe?|item)"
    r"\s+(?:[ivxlc]+|[a-z]|\d+[a-z]?)\b|第.{1,3}章",
    re.IGNORECASE,
)
_PREFIX = re.compile(rf"(?:(?:{_PART.pattern}|\d+(?:\.\d+)*)[.:)]?\s*)*", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+(?:\.\d+)*)\.?\s")
HOW_MANY = re.compile(r"how many|number of|wie ?viele|combien|cuánt|多少|几|كم", re.IGNORECASE)
FRONT, _LEAST, _RISING = 25, 4, 0.8
"""Pages that are looked through for a printed table, the lines that it must have, and how many of its page numbers must
not fall."""
_MOST_CHARS = 3000
_BEHIND = re.compile(
    r"\W*(?:[b-h]\.?\s|appendi|annex|index|glossar|references?\b|bibliogra[pf]|exhibits?\b|signatures?\b|anhang|anlage"
    r"|literatur|glosario|anexo|附录|参考文献|ملحق)",
    re.IGNORECASE,
)
"""The title of a part that stands behind what a document has to say."""
SOME = re.compile(rf"\b(first|last)(?:\s+(\d+|{'|'.join(NUMBER_WORDS)}))?\s+(?=[^\W\d_]{{4,}})", re.IGNORECASE)


def printed_contents(pages: Sequence[Page]) -> list[Entry]:
    """The entries of the first printed table of contents, with the pages that they lead to as far as these are there,
    else the table's own."""
    lines: list[tuple[str, str]] = []
    at = 0
    for page in pages[:FRONT]:
        if found := printed_lines(page.text, bool(lines)):
            lines += [(" ".join(match["title"].split()), match["label"].lower()) for match in found]
            at = page.number
        elif lines:
            break
    if not lines:
        return []
    behind = [(page.number, " ".join(page.text.casefold().split())) for page in pages[at:]]
    numbers = {page.label.lower(): page.number for page in pages}
    shifts: Counter[int] = Counter()
    for title, label in lines:
        words = bare(title).casefold() or title.casefold()
        number = next((number for number, text in behind if words in text), 0)
        if number and label.isdecimal():
            shifts[number - int(label)] += 1
    shift = max(shifts, key=lambda each: shifts[each], default=0)
    entries, named = [], False
    for title, label in lines:
        number = int(label) + shift if label.isdecimal() else numbers.get(label, at)
        part, numbered = _PART.match(title), _NUMBER.match(title)
        depth = numbered[1].count(".") + 1 if numbered else 1
        named = named or part is not None
        level = 1 if part else depth + named
        entries.append((level, title, number if at <= number <= len(pages) else at))
    return entries


def bare(title: str) -> str:
    """A title without "Chapter 3", "Item 7." or its number in front."""
    return _PREFIX.sub("", title, count=1)


def printed_lines(text: str, goes_on: bool = False) -> list[re.Match[str]]:
    """The lines of a printed table of contents that a page is, or has the rest of where it `goes_on`; else none."""
    found = list(_LINE.finditer(text)) if len(_LABEL.findall(text)) >= _LEAST else []
    dotted = sum(match["dots"] is not None for match in found)
    is_table = len(found) >= _LEAST and (goes_on or dotted > len(found) / 2 or _is_headed(text)) and _rise(found)
    return found if is_table else []


def _is_headed(text: str) -> bool:
    """Whether a line says that a table of contents follows, wherever it is spaced."""
    return _HEAD.search(re.sub(r"[^\S\n]", "", text)) is not None


def _rise(found: Sequence[re.Match[str]]) -> bool:
    """Whether the page numbers hardly ever fall, as figures of other tables do."""
    numbers = [int(match["label"]) for match in found if match["label"].isdecimal()]
    rising = sum(one <= other for one, other in pairwise(numbers))
    return rising >= _RISING * (len(numbers) - 1) and len(set(numbers)) > 1


def asked_of(question: str, top: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the chapters that are asked for: the first or last ones; only those with a number, where these are
    counted."""
    some = SOME.search(question)
    numbered = [each for each in top if _CHAPTER.match(each[0])]
    chosen = numbered if len(numbered) > 1 and (some or HOW_MANY.search(question)) else list(top)
    if not some:
        return chosen
    word = (some[2] or "one").lower()
    count = int(word) if word.isdecimal() else NUMBER_WORDS[word]
    return chosen[:count] if some[1].lower() == "first" else chosen[-count:]


def printed_on(pages: Sequence[Page], titles: Sequence[str]) -> Passage | None:
    """The lines of one of the first pages that hold some titles one after the other, as a printed table does."""
    if len(titles) < 2:
        return None
    wanted = re.compile(
        r"\b[^\n]*\n(?:[^\n]*\n)*?\W*".join(r"\s+".join(map(re.escape, title.split())) for title in titles)
    )
    for page in pages[:FRONT]:
        if (found := wanted.search(page.text + "\n")) and len(found[0]) <= _MOST_CHARS:
            end = found.end() + len(page.text[found.end() :].split("\n")[0])
            return Passage(page.number, found.start(), end, page.text[found.start() : end], is_row=True)
    return None


def headings(pages: Sequence[Page]) -> list[Entry]:
    """Lines that stand alone, are short, end with no mark and are not on many pages: (level, title, page)."""
    lines = [(page.number, line.strip()) for page in pages for line in _alone(page.text)]
    often = Counter(line for _, line in lines)
    return [(1, line, number) for number, line in lines if often[line] == 1]


def _alone(text: str) -> list[str]:
    """The first line of a page and those between empty ones, if they look like a heading."""
    blocks = [block.strip().split("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]
    lines = [block[0] for place, block in enumerate(blocks) if len(block) == 1 or place == 0]
    return [
        line
        for line in lines
        if re.match(r"\s*(?:\d+(?:\.\d+)*\.?\s+)?[^\W\d_]", line)
        and 2 < len(line.strip()) < 80
        and len(line.split()) < 12
        and line.rstrip()[-1:].isalnum()
        and (line.strip()[0].isdigit() or line.strip()[0].isupper() or not line.strip()[0].islower())
    ]


def chapters(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """The outermost level that has more than one entry."""
    if not entries:
        return []
    levels = Counter(level for level, _, _ in entries)
    level = next((each for each in sorted(levels) if levels[each] > 1), min(levels))
    return [(title, page) for each, title, page in entries if each <= level]


def body(pages: Sequence[Page], entries: Sequence[Entry]) -> list[Page]:
    """The pages before the first part, in their second half, that stands behind what a document has to say."""
    behind = (
        page
        for level, title, page in entries
        if level == 1 and page > len(pages) / 2 and (_BEHIND.match(title) or _BEHIND.match(bare(title)))
    )
    end = min(behind, default=len(pages) + 1)
    return [page for page in pages if page.number < end]
