"""Windows: stretches of a page of about 80 words, as long as an encoder of meaning was made for."""

import re
from collections.abc import Iterator

_WORDS = 80
_SIGNS = 480
"""As many characters stand for as many words in scripts without spaces."""
_TITLE_CHARS = 90


def windows(text: str) -> list[tuple[int, str]]:
    """Where each window of a page begins, and its text below the page's title; they end at line ends where they can."""
    title = next((line.strip()[:_TITLE_CHARS] for line in text.split("\n") if re.search(r"[^\W\d_]{2}", line)), "")
    return [(start, text[start:end] if not start else f"{title}\n{text[start:end]}") for start, end in _cut(text)]


def _cut(text: str) -> Iterator[tuple[int, int]]:
    start, count, end = -1, 0, 0
    for word in re.finditer(rf"\S{{1,{_SIGNS}}}", text):
        new_line, new_paragraph = "\n" in text[end : word.start()], text.count("\n", end, word.start()) > 1
        enough = _WORDS if new_line else 1.5 * _WORDS
        full = count >= enough or word.end() - start > 2 * _SIGNS
        if start >= 0 and (full or (new_paragraph and count >= _WORDS / 2)):
            yield start, end
            start = -1
        if start < 0:
            start, count = word.start(), 0
        count, end = count + 1, word.end()
    if start >= 0:
        yield start, end
