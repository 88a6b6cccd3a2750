"""What a question seeks: its words, weighed by their rarity in the document, and what kind of answer it wants."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.answer_span import asks_for_amount, asks_for_words
from app.definitions import defined
from app.idioms import said_as
from app.indexed_page import IndexedPage
from app.passages import Passage
from app.question_words import AMOUNTS, HOW_MUCH
from app.words import fold, is_german, stem, stems, terms, words

BESIDE = 1 / 3
"""What a word counts in the passage beside: the sentence before often names what a passage is about."""
GOES_ON = 1 / 2
"""What it counts in a sentence that goes on from there by "he" or "it"."""
BELOW = 1 / 2
"""What it counts in the heading that a passage stands below, or in the heads of a row's columns."""
HEADED = 0.75
"""The same in the heads of a row of figures."""
_TYPED = 0.85
"""How much a word that the document does not have must resemble one that it has, to be taken for it."""
_REST = 0.95
_COMMON = 1 / 3
"""A name on more than this share of the pages, like that of the company itself, tells no passage from another."""
_CAPITAL = r"[A-ZÀ-ÖØ-ÞĀ-ŽА-Я]"
_SMALL = r"[^\W\d_A-ZÀ-ÖØ-ÞА-Я]"
_NAME = re.compile(rf"(?<!^)(?<![.!?]\s)\b(?:{_CAPITAL}{_SMALL}|{_CAPITAL}+{_SMALL}+{_CAPITAL})[^\W\d_]*")
_BEFORE = r"\b([^\W\d_A-Z]\w{2,})\s(?:in|of|at|for)\s(?:the\s)?$"
_BEHIND = r"\s([^\W\d_A-Z]\w{2,})\b"
_NUMBER = re.compile(r"\d{4,}")
_NAMED_VALUE = re.compile(r"^[ \t]*([^\W\d_][^:：\n]{1,40})[:：](?=\s*\S)", re.MULTILINE)
_WHO_DID = re.compile(r"\bwho (\w{3,})", re.IGNORECASE)
_DEED = 1.5
"""How much more it tells what somebody did than to what: "who designed the lighthouse"."""
_APART = 0.5
_TITLE = 0.3
"""How much less a word of the document's title tells: all of it is about that."""
_HELD = 0.5
"""A name that the document has nowhere tells something where it has this share of the other words: it does not where
the question is in another language."""
_FIGURES = re.compile(
    rf"{HOW_MUCH}|{AMOUNTS}|\b(?:ratio|percent|percentage|amount|total|number|sum|average|cost|price|rate)\b|%"
    r"|\b(?:million|billion|thousand)s?\b",
    re.IGNORECASE,
)
_HOW_TO_ANSWER = re.compile(
    r"(?:^|(?<=[.?!])\s*)(?:please\s+)?(?:answer|reply|respond|round|format|give|return|save|express|write)\b[^.?!]*[.?!]?"
    r"|\b(?:the|this) (?:report|document|text|file|book|paper|article) (?:says?|tells?|states?|mentions?)\b"
    r"|^(?:please|hey|hi|hello|dear|ok|can|could|would|will|tell|show|say|give)\b[^,]{0,30},\s*\w+\s*,"
    r"|^(?:please )?(?:describe|explain|tell (?:me|us))\b(?: (?:everything|all|more))?(?: (?:about|on))?\b"
    r"|\b(?:treated|considered|regarded|seen|described|referred to)(?= as\b)"
    r"|\btotal(?= (?:net )?(?:revenues?|sales|income|earnings|profits?)\b)"
    r"|\bthe answer (?:should|shall|must|has to)\b[^?]*"
    r"|\b(?:fy|fiscal) ?(?:years? ?)?(?=\d\d)|\b(?:fiscal )?years? end(?:ed|ing)?(?= )"
    r"|\b(?:according to|in) (?:the|this) (?:report|document|text|file|book|paper|article)\b,?",
    re.IGNORECASE,
)
"""What says how to answer, or who should, and not what is sought."""


@dataclass(frozen=True)
class QueryTerms:
    """Stems with their weights, which sum to 1.

    `missing` is the weight of those that no page holds that was looked at; `figures` says whether an amount is asked
    for, and `names` are those that some passages hold, but not most pages. `absent` are names and numbers that no page
    holds, as the question writes them; `slots` finds, by name, another name in the place that it has in the question:
    "the Bergen office" where Oslo is asked for. `foreign` says that the question is in other letters than Latin ones.
    """

    weights: Mapping[str, float]
    missing: float = 0.0
    figures: bool = False
    names: frozenset[str] = frozenset()
    absent: tuple[str, ...] = ()
    slots: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    foreign: bool = False
    pairs: frozenset[tuple[str, str]] = frozenset()
    """Stems that stand side by side in the question."""

    asked: frozenset[str] = frozenset()
    """The stems of all words of the question."""

    def together(self, passage: Passage) -> float:
        """The share of the pairs that a passage has side by side, too; all where it gives a value of that very name."""
        if any(stems(label[1]) <= self.asked for label in _NAMED_VALUE.finditer(passage.text)):
            return 1.0
        return len(self.pairs & _pairs(passage.text)) / len(self.pairs) if self.pairs else 0.0

    def shares(self, pages: Sequence[IndexedPage]) -> NDArray[np.float64]:
        """For each passage of the pages, in order, the share of the question that it holds, with less for words of the
        passages beside and of those above, between 0 and 1."""
        counts = [len(page.passages) for page in pages]
        first = np.cumsum([0, *counts])
        top, bottom = np.repeat(first[:-1], counts), np.repeat(first[1:] - 1, counts)
        rows = np.concatenate([np.zeros(0, np.bool_), *(page.rows for page in pages)])
        goes_on = np.concatenate([*(page.goes_on for page in pages), np.zeros(1, np.bool_)])
        share = np.zeros(first[-1])

        def those(numbers: Iterable[NDArray[np.int64] | None]) -> NDArray[np.int64]:
            """Numbers on their pages as numbers of all."""
            found = [own + at for own, at in zip(numbers, first, strict=False) if own is not None]
            return np.concatenate(found) if found else np.zeros(0, np.int64)

        for word, weight in self.weights.items():
            held = np.zeros(len(share))
            below = those(page.below.get(word) for page in pages)
            own = those(page.holders.get(word) for page in pages)
            held[below] = np.where(rows[below], HEADED, BELOW)
            for beside in (np.maximum(own - 1, top[own]), np.minimum(own + 1, bottom[own])):
                held[beside] = np.maximum(held[beside], BESIDE)
            following = own + 1
            while len(following := following[goes_on[following]]):
                held[following] = np.maximum(held[following], GOES_ON)
                following = following + 1
            held[own] = 1.0
            share += weight * held
        return np.minimum(share, 1.0)

    def others(self, pages: Sequence[IndexedPage], shares: NDArray[np.float64]) -> NDArray[np.bool_]:
        """For each passage, in order, whether it says what is sought of somebody or something else: it holds the rest
        of the question, and neither it nor a passage beside it a name of it."""
        if not self.names:
            return np.zeros(len(shares), dtype=bool)
        named = QueryTerms(dict.fromkeys(self.names, 1.0)).shares(pages) > 0
        return ~named & (shares + sum(self.weights[name] for name in self.names) >= _REST)

    def names_row(self, row: Passage) -> float:
        """The share of the words in front of a row's figures that the question has: none but its own is what is sought
        and not a part of it, or something beside. Half of it where words that stand side by side in the question stand
        apart: "net income" is no "income taxes, net"."""
        label = row.label_stems
        own = sum(each in self.asked or each in self.weights for each in label) / len(label) if label else 0.0
        both = {pair for pair in self.pairs if label.issuperset(pair)}
        return _APART * own if both and not both <= _pairs(row.text) else own

    def is_of_another(self, passage: Passage) -> bool:
        """Whether a passage has another name where the question has one of its own."""
        found = (slot.finditer(passage.text) for name, slot in self.slots.items() if name not in passage.stems)
        return any(stem(fold(each[1] or each[2])) not in self.asked for slot in found for each in slot)


def core_question(question: str) -> str:
    """The question without sentences that say how to answer it, unless nothing else is left."""
    if term := defined(question):
        return term
    rest = " ".join(_HOW_TO_ANSWER.sub(" ", question).split())
    return rest if len(terms(rest)) > 1 else question


def seek(question: str, pages: Sequence[IndexedPage], lines: str = "", title: str = "") -> QueryTerms:
    """What a question seeks among the passages of some pages. The rarer a word is there, the more it weighs.

    A word that they do not have is taken for one that is written almost like it. With the `lines` that answer it, none
    is missed.
    """
    core = said_as(core_question(question), lambda word: any(word in page.holders for page in pages))
    wanted = dict.fromkeys(stem(term) for term in terms(core))
    holding = {word: sum(len(page.holders.get(word, ())) for page in pages) for word in wanted}
    known: set[str] = set()
    for word in [word for word, count in holding.items() if not count and len(word) > 3 and word.isalpha()]:
        known = known or set().union(*(page.holders for page in pages))
        # Written without a space, or part of a compound: "Zugangscode".
        ending = stem(f"behind{word}").removeprefix("behind")
        together = [
            each
            for each in known
            if (len(each) > 5 and word.startswith(each)) or (len(word) - len(ending) < 2 and each.endswith(ending))
        ]
        typed = get_close_matches(word, known, 1, _TYPED) if len(word) > 4 else []
        for other in sorted(together)[:1] or typed:
            holding[other] = sum(len(page.holders.get(other, ())) for page in pages)
            del holding[word]
    more = {word: sum(len(page.holders.get(word, ())) for page in pages) for word in map(stem, terms(lines))}
    holding |= {word: count for word, count in more.items() if count} if lines else {}
    count = sum(len(page.passages) for page in pages)
    rarity = {word: math.log(1 + count / (1 + held)) for word, held in holding.items()}
    if (who := _WHO_DID.search(core)) and (did := stem(fold(who[1]))) in rarity:
        rarity[did] *= _DEED
    for word in stems(title.replace("_", " ")) & rarity.keys():
        rarity[word] *= _TITLE if word.isalpha() else 1.0
    total = sum(rarity.values()) or 1.0
    weights = {word: each / total for word, each in rarity.items()}
    named = {stem(fold(match[0])): match for match in _NAME.finditer(core)}
    lacking = {word for word in weights if not holding[word]}
    strange = [word for word in lacking if word in named or _NUMBER.fullmatch(word)]
    others = weights.keys() - named.keys() - set(strange)
    # Not where every noun is written like a name.
    is_told = len(named) <= 2 * len(others) and not is_german(core) and len(others - lacking) >= _HELD * len(others) > 0
    return QueryTerms(
        weights,
        0.0 if lines else sum(weights[word] for word in lacking),
        asks_for_amount(question) or (_FIGURES.search(question) is not None and not asks_for_words(question)),
        frozenset(name for name in named if name in weights and 0 < _on(name, pages) <= _COMMON * len(pages)),
        tuple(named[word][0] if word in named else word for word in strange) if is_told else (),
        {}
        if is_german(core)
        else {name: slot for name, match in named.items() if name in weights and (slot := _slot(core, *match.span()))},
        is_foreign(question),
        asked=stems(core),
        pairs=frozenset(pair for pair in _pairs(core) if pair[0] in weights and pair[1] in weights),
    )


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    """The stems of words that stand side by side."""
    return frozenset(
        (stem(one), stem(other))
        for (one, _, end), (other, start, _) in pairwise(words(text))
        if text[end:start].isspace() or text[end:start] == "-"
    )


def is_foreign(question: str) -> bool:
    """Whether most letters of a question are not Latin."""
    letters = [each for each in question if each.isalpha()]
    return 2 * sum(each < "\u0250" for each in letters) < len(letters)


def _slot(question: str, start: int, end: int) -> re.Pattern[str] | None:
    """Finds a name beside the word that stands beside the one at start..end of the question."""
    beside = re.search(_BEFORE, question[:start]) or re.match(_BEHIND, question[end:])
    name = (
        rf"(?!(?:The|This|That|These|An?|Its?|Our|Their|His|Her|My|Your|Each|Every|No|One|Some)\b){_CAPITAL}[^\W\d_]+"
    )
    return (
        re.compile(rf"\b{beside[1]}\s(?:in|of|at|for)\s(?:the\s)?({name})|\b({name})\s{beside[1]}\b")
        if beside
        else None
    )


def _on(word: str, pages: Sequence[IndexedPage]) -> int:
    return sum(word in page.holders for page in pages)
