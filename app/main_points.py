"""Main points: the sentences of some pages that hold most of what the pages say, each about something else.

They are taken from where a document sums itself up, else from the beginnings of its long chapters (a lead says what a
text is about: Edmundson, 1969), one from each, else from all of it, in three parts.
A sentence is worth the words of its pages that it holds (a centroid, Radev et al., 2004): the oftener there and the
rarer on other pages, the more. Words of headings count double, words that were said count no more, and no part gives
much more than its share.
"""

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.contents import Entry, bare, chapters, printed_lines
from app.passages import Passage, split
from app.words import stems, terms
from storage import Page

_LEAST_CHARS, _MOST_CHARS = 25, 420
_FIGURES = re.compile(r"\d[\d.,:%/-]*")
_SENTENCE_END = re.compile(r"(?<!\b\d)(?<!\b\d\d)[.!?。！？؟][\"'”’)»]*$")
_CONTENTS = re.compile(r"\.{4}|(?:\. ){2}\.|\s\.$")
"""A line of a table of contents or of an index."""
_LEANS = re.compile(
    r"(?:it|its|the following|this|these|those|that|they|their|he|his|she|her|(?:all )?such|both|but|and|or|so|also"
    r"|however|then|there|here|in addition|additionally|moreover|furthermore"
    r"|es|dies\w*|sie|er|aber|und|il|elle|ils|elles|ce|cette|cela|mais|et|esto|este|esta|ello|pero|y)\b"
    r"|[^\w\"“‘«„]|\d+[.)]\s|(?:in )?(?:figures?|tables?|abbildung|tabelle|tableau|tabla)\s\d",
    re.IGNORECASE,
)
"""The beginning of a sentence that cannot be understood without the one before, or of an item of a list."""
_NOTHING = re.compile(r"\b(?:none|not applicable|entfällt|néant)\.$", re.IGNORECASE)
_REFERS = re.compile(
    r"\b(?:(?:refer to|see)\b.{0,90}\b(?:note|item|section|chapter|page|appendix|part)|by reference|siehe|voir)\b"
    r"|\b(?:this|these|following|our) (?:[\w’']+ ){0,3}?(?:reports?|sections?|chapters?|discussion|documents?|manual"
    r"|guide|forms?|pages?|(?:financial )?statements?|audits?|risks?|items?|tables?)\b|forward-looking|check mark"
    r"|\b(?:described|discussed|mentioned) (?:above|below)\b|\blater we\b"
    r"|\b(?:also|auch|aussi|également|también)\b",
    re.IGNORECASE,
)
"""What sends the reader elsewhere, adds to what stands before, or speaks of the text itself."""
_SUMS_UP = re.compile(
    r"\b(?:abstract|summary|highlights?|conclusions?|findings|in brief|at a glance|key (?:facts|figures|points)"
    r"|zusammenfassung|kurzfassung|fazit|ergebnisse|résumé|synthèse|resumen|conclusi(?:ón|ones))\b"
    r"|摘要|结论|总结|ملخص|خاتمة",
    re.IGNORECASE,
)
"""A heading below which a document says itself what its main points are."""
_TELLING = re.compile(
    rf"{_SUMS_UP.pattern}|\b(?:overview|introduction|überblick|einleitung|aperçu|introducción)\b|概述|引言|مقدمة"
    r"|^\W*general\W*$",
    re.IGNORECASE,
)
"""A heading below which a chapter does."""
_HEADING_WORDS = 6
_EARLY = 0.25
"""Share of the pages on which it is said what the document is about."""
_THIRDS, _LEAST_CHAPTERS, _LONG, _LEADS, _LATER = 3, 4, 0.25, 6, 0.5
"""Parts of a document without chapters; as many chapters are told by their beginnings, if each has this share of their
mean length; sentences that are a beginning, and what each loses by those before it."""
_LEANING, _FIRST, _TOLD = 0.5, 1.25, 1.5
"""What a sentence is worth that leans on others, the first one below a heading, where its subject is named, and one
below a heading that promises main points."""


@dataclass(frozen=True)
class _Sentence:
    """A passage, the stems that it says, the part that it stands in, and how many sentences of that part stand before
    it that lean on nothing."""

    passage: Passage
    said: frozenset[str]
    part: int
    rank: int


def main_points(
    pages: Sequence[Page],
    count: int,
    entries: Sequence[Entry] = (),
    subject: str = "",
    others: Sequence[Page] = (),
    least: int = 0,
) -> list[Passage]:
    """At most `count` passages in the order of the document. `entries` of its table of contents are those that lead to
    the pages; a second passage of a chapter is taken only where there would be less than `least`. Beside `others` of
    the document, what sets the pages apart weighs more. The first sentence that says what the `subject` is comes first,
    if there is one.
    """
    every = (*pages, *others)
    defines = _defining(subject)
    starts = _starts(pages, entries)
    sentences = _sentences(pages, every, starts if len(starts) >= _LEAST_CHAPTERS else _thirds(pages), defines)
    early = max(3, _EARLY * pages[-1].number) if pages else 0
    leads = _leads(sentences, len(starts))
    summary = _summary(sentences, early) if leads else [each for each in sentences if _tells(each.passage)]
    summed_up = len(summary) >= count and not others
    if leads and not summed_up:
        sizes = Counter(each.part for each in sentences)
        favour = {each: _favour(each.passage) * sizes[each.part] ** 0.25 / (1 + _LATER * each.rank) for each in leads}
        most = dict.fromkeys((each.part for each in leads), 1)
    else:
        free = summary if summed_up else sentences
        firsts = set({(each.part, each.passage.above): each for each in reversed(free)}.values())
        favour = {each: _favour(each.passage) * (_FIRST if each in firsts else 1.0) for each in free}
        sizes = Counter(each.part for each in free)
        most = {part: math.ceil(count * size / len(free)) for part, size in sizes.items()}
    titles = stems(" ".join([subject, *(title for _, title, _ in entries)]))
    worth = _worth([each.said for each in sentences], [stems(page.text) for page in every], titles, not others)
    lead = (each for each in sentences if defines and each.passage.page <= early and defines.match(each.passage.quote))
    best = next(lead, None)
    chosen: list[_Sentence] = []
    while favour and len(chosen) < count:
        if not any(most[each.part] for each in favour):
            count, most = least, dict.fromkeys(most, 1)
            continue
        best = best or max(
            (each for each in favour if most[each.part]),
            key=lambda each: favour[each] * sum(worth[word] for word in each.said) / (6 + len(each.said)),
        )
        chosen.append(best)
        worth.update(dict.fromkeys(best.said, 0.0))
        most[best.part] = most.get(best.part, 1) - 1
        favour.pop(best, None)
        best = None
    return sorted((each.passage for each in chosen), key=lambda each: (each.page, each.start))


def _leads(sentences: Sequence[_Sentence], chapters: int) -> list[_Sentence]:
    """The beginnings of the long ones of so many chapters; none where these do not make up the document."""
    sizes = Counter(each.part for each in sentences)
    long = {part for part, size in sizes.items() if part and size * chapters >= _LONG * len(sentences)}
    if min(chapters, len(long)) < _LEAST_CHAPTERS:
        return []
    return [each for each in sentences if each.part in long and (each.rank < _LEADS or _tells(each.passage))]


def _summary(sentences: Sequence[_Sentence], early: float) -> list[_Sentence]:
    """What a document of chapters says of all of them on its `early` pages."""
    return [each for each in sentences if each.passage.page <= early and _SUMS_UP.search(_heading(each.passage))]


def _thirds(pages: Sequence[Page]) -> list[tuple[int, int]]:
    """Page and character where the parts of a document without chapters begin."""
    return [(pages[part * len(pages) // _THIRDS].number, 0) for part in range(_THIRDS if pages else 0)]


def _starts(pages: Sequence[Page], entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Page and character where each chapter begins."""
    texts = {page.number: page.text for page in pages}
    starts = set()
    for title, number in chapters(entries):
        words = bare(title).split()
        heading = re.search(r"\s+".join(map(re.escape, words)), texts.get(number, ""), re.IGNORECASE) if words else None
        starts.add((number, heading.start() if heading else 0))
    return sorted(starts)


def _sentences(
    pages: Sequence[Page], every: Sequence[Page], starts: Sequence[tuple[int, int]], defines: re.Pattern[str] | None
) -> list[_Sentence]:
    """The whole sentences of the pages, or whatever can be quoted of them. What stands on several pages tells nothing
    of any, but for what the document is all about."""
    found = [(page, each) for page in pages for each in split(page.number, page.text) if len(each.quote) > 2]
    tables = {page.number for page in pages if printed_lines(page.text)}
    whole = [(page, each) for page, each in found if page.number not in tables and _is_sentence(each, page.text)]
    candidates = [each for _, each in whole or found]
    often = Counter(quote for page in every for quote in {each.quote for each in split(page.number, page.text)})
    once = [each for each in candidates if often[each.quote] == 1 or (defines and defines.match(each.quote))]
    ranks: Counter[int] = Counter()
    sentences = []
    for each in once or candidates:
        part = bisect_right(starts, (each.page, each.start))
        sentences.append(_Sentence(each, _said(each), part, ranks[part]))
        ranks[part] += not _leans(each)
    return sentences


def _leans(passage: Passage) -> bool:
    return bool(_LEANS.match(passage.quote) or _REFERS.search(passage.quote))


def _tells(passage: Passage) -> bool:
    return _TELLING.search(_heading(passage)) is not None


def _favour(passage: Passage) -> float:
    """What a sentence is worth beside another one of the same words."""
    return (_LEANING if _leans(passage) else 1.0) * (_TOLD if _tells(passage) else 1.0)


def _heading(passage: Passage) -> str:
    """The heading next above it, if it is short."""
    heading = passage.above.rpartition("\n")[2]
    return heading if len(heading.split()) <= _HEADING_WORDS else ""


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
        and not _NOTHING.search(quote)
        and quote.count("”") + quote.count(")") <= quote.count("“") + quote.count("(")
        and text[: passage.start].rstrip()[-1:] not in (";", ":", ",")
        and not _CONTENTS.search(quote)
        and (len(words) < 4 or figures <= 0.25 * len(words))
    )
