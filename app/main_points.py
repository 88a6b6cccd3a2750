"""Main points: the sentences of some pages that hold most of what the pages say, each about something else.

A sentence is worth the words of its pages that it holds (a centroid, Radev et al., 2004): the oftener there and the
rarer on other pages, the more. Words of headings count double, words that were said count no more, and no part gives
much more than its share.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from app.contents import printed_lines
from app.passages import Passage, split
from app.words import stems, terms
from storage import Page

_LEAST_CHARS, _MOST_CHARS = 25, 420
_FIGURES = re.compile(r"\d[\d.,:%/-]*")
_SENTENCE_END = re.compile(r"(?<!\b\d)(?<!\b\d\d)[.!?。！？؟][\"'”’)»]*$")
_CONTENTS = re.compile(r"\.{4}|(?:\. ){2}\.|\s\.$")
"""A line of a table of contents or of an index."""
_LEANS = re.compile(
    r"(?:it|its|this|these|those|that|they|their|he|his|she|her|(?:all )?such|both|but|and|or|so|also|however|then"
    r"|there|here|in addition|additionally|moreover|furthermore"
    r"|es|dies\w*|sie|er|aber|und|il|elle|ils|elles|ce|cette|cela|mais|et|esto|este|esta|ello|pero|y)\b",
    re.IGNORECASE,
)
"""The beginning of a sentence that cannot be understood without the one before."""
_REFERS = re.compile(
    r"\b(?:(?:refer to|see)\b.{0,90}\b(?:note|item|section|chapter|page|appendix|part)|by reference|siehe|voir)\b",
    re.IGNORECASE,
)
"""What sends the reader elsewhere."""
_TELLING = re.compile(
    r"\b(?:abstract|summary|overview|highlights?|introduction|conclusions?|findings|in brief|at a glance"
    r"|key (?:facts|figures|points)|zusammenfassung|kurzfassung|überblick|einleitung|fazit|ergebnisse|résumé|synthèse"
    r"|aperçu|resumen|introducción|conclusi(?:ón|ones))\b|摘要|概述|引言|结论|总结|ملخص|مقدمة|خاتمة|^\W*general\W*$",
    re.IGNORECASE,
)
"""A heading below which a document says itself what its main points are."""
_HEADING_WORDS = 6
_ENOUGH = 2
"""Sentences below such headings for each point, so that all are taken from there."""
_EARLY = 0.25
"""Share of the pages on which it is said what the document is about."""
_LEANING, _FIRST, _TOLD = 0.5, 1.25, 1.5
"""What a sentence is worth that leans on others, the first one below a heading, where its subject is named, and one
below a heading that promises main points."""


def main_points(
    pages: Sequence[Page],
    count: int,
    parts: Mapping[int, int],
    titles: str = "",
    others: Sequence[Page] = (),
    subject: str = "",
) -> list[Passage]:
    """At most `count` passages in the order of the document. `parts` gives the part that each page belongs to, and
    `titles` holds the words that weigh double. Beside `others` of the document, what sets the pages apart weighs more.
    The first sentence that says what the `subject` is comes first, if there is one.
    """
    found = [(page, each) for page in pages for each in split(page.number, page.text) if len(each.quote) > 2]
    tables = {page.number for page in pages if printed_lines(page.text)}
    prose = [(page, each) for page, each in found if page.number not in tables and _is_sentence(each, page.text)]
    candidates = [(parts.get(page.number, 0), each) for page, each in prose or found]
    defines = _defining(subject)
    # What stands on several pages tells nothing of any, but for what it is all about.
    every = (*pages, *others)
    often = Counter(quote for page in every for quote in {each.quote for each in split(page.number, page.text)})
    once = [each for each in candidates if often[each[1].quote] == 1 or (defines and defines.match(each[1].quote))]
    candidates = once or candidates
    told = [(0, each) for _, each in candidates if _is_telling(each)]
    candidates = told if len(told) >= _ENOUGH * count and not others else candidates
    said = [_said(each) for _, each in candidates]
    worth = _worth(said, [stems(page.text) for page in every], stems(titles), not others)
    first = {(part, _heading(each)): each for part, each in reversed(candidates)}
    favour = [_favour(each, first[part, _heading(each)] is each) for part, each in candidates]
    sizes = Counter(part for part, _ in candidates)
    most = {part: math.ceil(count * size / len(candidates)) for part, size in sizes.items()}
    chosen: list[int] = []
    early = (index for index, (_, each) in enumerate(candidates) if each.page <= max(3, _EARLY * pages[-1].number))
    lead = next((index for index in early if defines and defines.match(candidates[index][1].quote)), None)

    def value(index: int) -> float:
        return favour[index] * sum(worth[word] for word in said[index]) / (6 + len(said[index]))

    while len(chosen) < min(count, len(candidates)):
        free = [index for index, (part, _) in enumerate(candidates) if most[part] and index not in chosen]
        best = max(free, key=value) if lead is None else lead
        lead = None
        chosen.append(best)
        most[candidates[best][0]] -= 1
        worth.update(dict.fromkeys(said[best], 0.0))
    return [candidates[index][1] for index in sorted(chosen)]


def _favour(passage: Passage, is_first: bool) -> float:
    """What a sentence is worth beside another one of the same words."""
    leans = _LEANS.match(passage.quote) or _REFERS.search(passage.quote)
    return (_LEANING if leans else _FIRST if is_first else 1.0) * (_TOLD if _is_telling(passage) else 1.0)


def _heading(passage: Passage) -> str:
    return passage.above.rpartition("\n")[2]


def _is_telling(passage: Passage) -> bool:
    heading = _heading(passage)
    return len(heading.split()) <= _HEADING_WORDS and _TELLING.search(heading) is not None


def _defining(subject: str) -> re.Pattern[str] | None:
    """Matches a sentence that begins with a word of the subject, and says that it is something."""
    words = [each for each in terms(subject.replace("_", " ")) if not each.isdigit()]
    if not words:
        return None
    named = rf"(?:the\s)?(?:[\w.,&’'-]+\s){{0,2}}(?:{'|'.join(map(re.escape, words))})\b"
    return re.compile(
        rf"{named}(?:[ ,][^.:;]{{0,40}}?)?\s(?:is|are|was|were)\s(?:an?|the|one)\s(?!same\b)", re.IGNORECASE
    )


def _worth(
    said: Sequence[frozenset[str]], pages: Sequence[frozenset[str]], heads: frozenset[str], central: bool
) -> dict[str, float]:
    """What each word counts: of all of a document, only those that more than one sentence holds."""
    frequency = Counter(word for words in said for word in words)
    on_pages = Counter(word for page in pages for word in page)
    return {
        word: math.log(times if central else 1 + times)
        * math.sqrt(math.log(1 + len(pages) / (1 + on_pages[word])))
        * (2.0 if word in heads else 1.0)
        for word, times in frequency.items()
    }


def _said(passage: Passage) -> frozenset[str]:
    return frozenset(stem for term in terms(passage.quote) for stem in stems(term) if not stem[0].isdigit())


def _is_sentence(passage: Passage, text: str) -> bool:
    """Whether a passage of a page is a whole sentence: no heading, row of a table, line of contents, or question."""
    quote = passage.quote
    words = quote.split()
    figures = sum(_FIGURES.fullmatch(word) is not None for word in words)
    return (
        _LEAST_CHARS <= len(quote) <= _MOST_CHARS
        and _SENTENCE_END.search(quote) is not None
        and not quote.rstrip("\"'”’)»").endswith("?")
        and not quote[0].islower()
        and text[: passage.start].rstrip()[-1:] not in (";", ":", ",")
        and not _CONTENTS.search(quote)
        and (len(words) < 4 or figures <= 0.25 * len(words))
    )
