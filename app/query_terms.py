"""What a question seeks: its words, weighed by their rarity in the document, and the names among them."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.passages import Passage
from app.words import stem, terms

_NAME = re.compile(r"(?<!^)(?<![.!?]\s)\b[A-Z][a-z][^\W\d_]*")
BESIDE = 1 / 3
"""What a word counts in the passage beside: a heading or the sentence before often names what a passage is about."""
_COMMON = 1 / 3
"""A name on more than this share of the pages, like that of the company itself, tells no passage from another."""


@dataclass(frozen=True)
class QueryTerms:
    """Stems with their weights, which sum to 1, and the stems of names that a passage should hold one of."""

    weights: Mapping[str, float]
    names: frozenset[str]

    def shares(self, passages: Sequence[Passage]) -> list[tuple[float, bool]]:
        """For each of the passages of one page, in order: the share of the question that it holds, between 0 and 1,
        and whether it or a neighbour holds one of the names (True if there are none)."""
        held = [passage.stems & self.weights.keys() for passage in passages]
        found = []
        for index, own in enumerate(held):
            beside = frozenset().union(*held[max(0, index - 1) : index + 2]) - own
            if not own and not beside:
                # As of most passages.
                found.append((0.0, not self.names))
                continue
            share = sum(self.weights[each] for each in own) + BESIDE * sum(self.weights[each] for each in beside)
            found.append((min(1.0, share), not self.names or not self.names.isdisjoint(own | beside)))
        return found


def seek(question: str, pages: Sequence[Sequence[Passage]]) -> QueryTerms:
    """What a question seeks among the passages of some pages. The rarer a word is there, the more it weighs."""
    wanted = {stem(term) for term in terms(question)}
    by_page = [[passage.stems & wanted for passage in page] for page in pages]
    count = sum(map(len, by_page))
    holding = Counter(each for page in by_page for held in page for each in held)
    rarity = {each: math.log(1 + count / (1 + holding[each])) for each in wanted}
    total = sum(rarity.values()) or 1.0
    names = {stem(name.lower()) for name in _NAME.findall(question)} & wanted
    common = {
        name for name in names if sum(any(name in each for each in page) for page in by_page) > _COMMON * len(pages)
    }
    return QueryTerms({each: weight / total for each, weight in rarity.items()}, frozenset(names - common))
