"""Scripts that are written without spaces, of which every two signs that stand together are searched as a word."""

import re
from collections.abc import Iterator

_SIGNS = (
    "\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1780-\u17d3\u3005-\u3007\u3041-\u30ff\u3400-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff"
)
"""Thai, Lao, Burmese, Khmer, kana, Han and Hangul (which has spaces, and puts its particles right behind a word)."""
RUN = re.compile(rf"[{_SIGNS}\U00020000-\U0003ffff]+")


def pairs(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Characters (start, end) of every two signs in a run, each of which shares one with the next; one sign alone."""
    return ((at, min(at + 2, end)) for at in range(start, max(start + 1, end - 1)))


def spaced(text: str) -> str:
    """The text with a space around every two signs, so that a tokenizer which knows spaces finds them."""
    return RUN.sub(lambda run: f" {' '.join(run[0][a:b] for a, b in pairs(0, len(run[0])))} ", text)
