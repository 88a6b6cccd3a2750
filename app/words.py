"""The words that carry a question: what is searched for, and what a passage is compared with."""

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*")
_STOP = frozenset(
    "a about all also am an and any are as at be been but by can could did do does for from give had has have how i if "
    "in into is it its list many me much must name of on or our shall should state tell than that the their them there "
    "these they this those to under us was we were what when where which who whom whose why will with would you your "
    "document".split()
)
_ENDINGS = (
    "ations",
    "ation",
    "ments",
    "ment",
    "ings",
    "ing",
    "ies",
    "ied",
    "ers",
    "es",
    "ed",
    "er",
    "ly",
    "s",
    "e",
    "y",
)


def words(text: str) -> list[tuple[str, int, int]]:
    """Every word in lower case with the characters (start, end) it covers; "11,692.7" and "X-220" are one word each."""
    return [(match.group().lower(), match.start(), match.end()) for match in _WORD.finditer(text)]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A crude stem: enough for "closed" to meet "closing", and never for a word with digits."""
    if len(word) < 5 or any(map(str.isdigit, word)):
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def terms(text: str) -> list[str]:
    """The words of a question that say what it is about, in order and once each; all words if none is left."""
    found = [word.removesuffix("'s").removesuffix("’s") for word, _, _ in words(text)]
    return list(dict.fromkeys([word for word in found if word not in _STOP] or found))


def stems(text: str) -> frozenset[str]:
    """The stems of a text."""
    return frozenset(stem(word) for word, _, _ in words(text))
