"""Main points: the sentences of some pages that hold most of what the pages say, each about something else.

A sentence is worth the words of its pages that it holds (a centroid, Radev et al., 2004): the oftener there and the
rarer on other pages, the more. Words of headings count double, words that were said count no more, and no part gives
much more than its share.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from app.passages import Passage, split
from app.words import stems, terms
from storage import Page

_LEAST_CHARS, _MOST_CHARS = 25, 420
_FIGURES = re.compile(r"\d[\d.,:%/-]*")
_SENTENCE_END = re.compile(r"(?<!\b\d)(?<!\b\d\d)[.!?。！？؟][\"'”’)»]*$")
_CONTENTS = re.compile(r"\.{4}|(?:\. ){2}\.|\s\.$")
"""A line of a table of contents or of an index."""
_LEANS = re.compile(
    r"(?:it|its|this|these|those|that|they|their|he|his|she|her|such|both|but|and|or|so|also|however|then|there|here"
    r"|es|dies\w*|sie|er|aber|und|il|elle|ils|elles|ce|cette|cela|mais|et|esto|este|esta|ello|pero|y)\b",
    re.IGNORECASE,
)
"""The beginning of a sentence that cannot be understood without the one before."""
_EARLY = 0.25
"""Share of the pages on which it is said what the document is about."""
_LEANING, _FIRST = 0.5, 1.25
"""What such a sentence is worth, and the first one of a part, where its subject is named."""


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
    prose = [(page, each) for page, each in found if _is_sentence(each, page.text)]
    candidates = [(parts.get(page.number, 0), each) for page, each in prose or found]
    # What stands on several pages tells nothing of any.
    every = (*pages, *others)
    often = Counter(quote for page in every for quote in {each.quote for each in split(page.number, page.text)})
    candidates = [(part, each) for part, each in candidates if often[each.quote] == 1] or candidates
    said = [_said(each) for _, each in candidates]
    worth = _worth(said, [stems(page.text) for page in every], stems(titles), not others)
    first = {part: index for index, (part, _) in reversed(list(enumerate(candidates)))}
    most = -(-count // max(1, len(first)))
    used: Counter[int] = Counter()
    chosen: list[int] = []
    defines = _defining(subject)
    early = (index for index, (_, each) in enumerate(candidates) if each.page <= max(3, _EARLY * pages[-1].number))
    lead = next((index for index in early if defines and defines.match(candidates[index][1].quote)), None)

    def value(index: int) -> float:
        part, passage = candidates[index]
        whole = sum(worth[word] for word in said[index]) / (6 + len(said[index]))
        return whole * (_LEANING if _LEANS.match(passage.quote) else _FIRST if first[part] == index else 1.0)

    while len(chosen) < min(count, len(candidates)):
        free = [index for index, (part, _) in enumerate(candidates) if index not in chosen and used[part] < most]
        if not free:
            most += 1
            continue
        best = max(free, key=value) if lead is None else lead
        lead = None
        chosen.append(best)
        used[candidates[best][0]] += 1
        worth.update(dict.fromkeys(said[best], 0.0))
    return [candidates[index][1] for index in sorted(chosen)]


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
