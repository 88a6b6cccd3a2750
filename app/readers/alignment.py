"""Finds the words of one text in another text of the same page. Knows strings only.

Two extractors agree on nearly all words and on their order; they differ in spaces, hyphens and where a block comes.
"""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

_SEPARATORS = r"\s\x00-\x1f\xad\ufffe"
_WORD = re.compile(rf"[^{_SEPARATORS}]+")
MAX_GAP_CHARACTERS = 400


class Span(NamedTuple):
    """`text[start:end]`, in characters."""

    start: int
    end: int


class Match(NamedTuple):
    """A word of the first text and the place in the second text that holds it."""

    word: Span
    other: Span


def align(text: str, other: str) -> list[Match]:
    """The words of `text` that `other` holds too, in the order of `text`; words without a match are left out."""
    words = [Span(*found.span()) for found in _WORD.finditer(text)]
    others = [Span(*found.span()) for found in _WORD.finditer(other)]
    matches: list[Match] = []
    # A block that stands elsewhere in the other text is met when the words around it are gone.
    for _ in range(3):
        found, words, others = _align_once(text, words, other, others)
        matches += found
        if not found or not words or not others:
            break
    return sorted(matches)


def _align_once(
    text: str, words: list[Span], other: str, others: list[Span]
) -> tuple[list[Match], list[Span], list[Span]]:
    """The matches in common order, and the words of both texts that are left over."""
    keys = [text[start:end].rstrip("-") for start, end in words]
    other_keys = [other[start:end].rstrip("-") for start, end in others]
    matches: list[Match] = []
    words_left: list[Span] = []
    others_left: list[Span] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, keys, other_keys, autojunk=False).get_opcodes():
        if tag == "equal":
            matches += map(Match, words[i1:i2], others[j1:j2])
            continue
        found = list(_align_gap(text, words[i1:i2], other, others[j1:j2]))
        matches += found
        placed = {match.word for match in found}
        words_left += [word for word in words[i1:i2] if word not in placed]
        if not found:
            others_left += others[j1:j2]
    return matches, words_left, others_left


def _align_gap(text: str, words: list[Span], other: str, others: list[Span]) -> Iterator[Match]:
    """Matches between differing words by their characters: split, joined or partly differing words."""
    places = [i for word in words for i in range(*word)]
    other_places = [i for word in others for i in range(*word)]
    if not places or not other_places or max(len(places), len(other_places)) > MAX_GAP_CHARACTERS:
        return
    characters = "".join(text[i] for i in places)
    other_characters = "".join(other[i] for i in other_places)
    blocks = SequenceMatcher(None, characters, other_characters, autojunk=False).get_matching_blocks()
    found = {places[a + k]: other_places[b + k] for a, b, size in blocks for k in range(size)}
    for word in words:
        hits = [found[i] for i in range(*word) if i in found]
        if 2 * len(hits) > len(range(*word)):
            yield Match(word, Span(hits[0], hits[-1] + 1))
