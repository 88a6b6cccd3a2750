"""The indexed page: its passages, and which of them hold or stand below a word, made once for all questions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.passages import Passage, split
from app.words import stems

_FIGURE = re.compile(r"(?<!\d)(?!(?:1[89]|20)\d\d\b)\d")
"""But for years."""
_PRONOUN = re.compile(r"\W*(?:it|he|she|they|this|these|its|his|her|their|er|sie|es|il|elle|ils)\b", re.IGNORECASE)
"""At the beginning of a sentence that goes on from the one before."""


@dataclass(frozen=True)
class IndexedPage:
    """The N passages of a page; `rows` (N,) says which are rows of figures in a table."""

    passages: Sequence[Passage]
    holders: Mapping[str, NDArray[np.int64]]
    """By stem, the numbers of the passages that hold it."""
    below: Mapping[str, NDArray[np.int64]]
    """By stem, the numbers of the passages that stand below it: headings, captions, and the heads of columns."""
    rows: NDArray[np.bool_]
    middles: NDArray[np.int64]
    """The characters (N,) of the page's text in the middle of each."""
    goes_on: NDArray[np.bool_]
    """Which (N,) go on from the one before."""


@lru_cache(maxsize=2048)
def indexed_page(number: int, text: str, previous: str = "", following: str = "") -> IndexedPage:
    """The page of this number and text, between the texts of the pages beside it."""
    passages = split(number, text, previous, following)
    holders: dict[str, list[int]] = {}
    below: dict[str, list[int]] = {}
    for index, passage in enumerate(passages):
        for stem in passage.stems:
            holders.setdefault(stem, []).append(index)
        for stem in _stems_above(passage.above):
            below.setdefault(stem, []).append(index)
    rows = np.array([passage.is_row and bool(_FIGURE.search(passage.text)) for passage in passages], dtype=bool)
    middles = np.array([(passage.start + passage.end) // 2 for passage in passages], dtype=np.int64)
    led = [False, *(goes_on(before, each) for before, each in pairwise(passages))][: len(passages)]
    return IndexedPage(passages, _arrays(holders), _arrays(below), rows, middles, np.array(led, dtype=bool))


def goes_on(passage: Passage, following: Passage) -> bool:
    """Whether the following passage is the next sentence, and speaks of the same."""
    return 0 <= following.start - passage.end <= 2 and _PRONOUN.match(following.text) is not None


def _arrays(numbers: Mapping[str, list[int]]) -> dict[str, NDArray[np.int64]]:
    return {stem: np.array(each, dtype=np.int64) for stem, each in numbers.items()}


@lru_cache(maxsize=1024)
def _stems_above(lines: str) -> frozenset[str]:
    return stems(lines)
