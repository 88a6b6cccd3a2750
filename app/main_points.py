"""Main points: the sentences of some pages that hold most of what the pages say, each about something else.

SumBasic (Nenkova and Vanderwende, 2005): a sentence is worth the mean frequency of its words, and words that a chosen
sentence holds count less from then on. Words of headings count double, and no part gives much more than its share.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from app.passages import Passage, split
from app.words import stems, terms
from storage import Page

_LEAST_CHARS, _MOST_CHARS = 40, 420
_FIGURES = re.compile(r"\d[\d.,:%/-]*")
_SENTENCE_END = re.compile(r"[.!?。！？؟][\"'”’)»]*$")
_FIRST = 1.3
"""What a sentence gains at the beginning of a part, where its subject is named."""


def main_points(
    pages: Sequence[Page], count: int, parts: Mapping[int, int], titles: str = "", others: Sequence[Page] = ()
) -> list[Passage]:
    """At most `count` passages in the order of the document. `parts` gives the part that each page belongs to, and
    `titles` holds the words that weigh double. Beside `others` of the document, what sets the pages apart weighs more.
    """
    found = [(parts.get(page.number, 0), each) for page in pages for each in split(page.number, page.text)]
    candidates = [(part, each) for part, each in found if _is_sentence(each)] or [
        (part, each) for part, each in found if len(each.quote) > 2
    ]
    said = [_said(each) for _, each in candidates]
    frequency = Counter(word for words in said for word in words)
    total = sum(frequency.values()) or 1
    heads = stems(titles)
    elsewhere = Counter(stem for page in others for stem in stems(page.text))
    worth = {
        word: times / total * (2.0 if word in heads else 1.0) * math.log(1 + (1 + len(others)) / (1 + elsewhere[word]))
        for word, times in frequency.items()
    }
    most = -(-count // max(1, len({part for part, _ in candidates})))
    first = {part: index for index, (part, _) in reversed(list(enumerate(candidates)))}
    used: Counter[int] = Counter()
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        free = [index for index, (part, _) in enumerate(candidates) if index not in chosen and used[part] < most]
        if not free:
            most += 1
            continue

        def value(index: int) -> float:
            mean = sum(worth[word] for word in said[index]) / max(6, len(said[index]))
            return mean * (_FIRST if first[candidates[index][0]] == index else 1.0)

        best = max(free, key=value)
        chosen.append(best)
        used[candidates[best][0]] += 1
        for word in said[best]:
            worth[word] *= worth[word]
    return [candidates[index][1] for index in sorted(chosen)]


def _said(passage: Passage) -> frozenset[str]:
    return frozenset(stem for term in terms(passage.quote) for stem in stems(term) if not stem[0].isdigit())


def _is_sentence(passage: Passage) -> bool:
    """Whether a passage is prose: no heading, no row of a table, no line of a table of contents, no question."""
    quote = passage.quote
    words = quote.split()
    figures = sum(_FIGURES.fullmatch(word) is not None for word in words)
    return (
        _LEAST_CHARS <= len(quote) <= _MOST_CHARS
        and _SENTENCE_END.search(quote) is not None
        and not quote.rstrip("\"'”’)»").endswith("?")
        and not quote[0].islower()
        and "...." not in quote
        and ". . ." not in quote
        and (len(words) < 4 or figures <= 0.25 * len(words))
    )
