"""Answer support: what of the model's own words a passage holds, and which numbers, names and dates none does."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.number_words import NUMBER_WORDS
from app.question_words import EMPTY
from app.words import stems, terms

_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*|[一二三四五六七八九十百千万亿〇零]{2,}")
_GROUPED = re.compile(r"\d{1,3}(?:[.,]\d{3})+(?:[.,]\d+)?")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SPELLED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s|$)|[。！？]|$|(?=\n))", re.MULTILINE)
_ALSO_WORDS = frozenset(
    "one once uno null eins seize cent mil elf sept dos tres acht onze dix hundred thousand million millions billion "
    "billions hundert tausend millionen mille millones".split()
)
"""Words that are numbers in one language and something else in another, and those that a table leaves to its head."""
_BEGINS = frozenset(
    "according additionally after also although among another because before besides both but by despite during "
    "each either  finally first furthermore he her his however instead later many moreover most nearly neither no "
    "none nor other others  our overall several she since similarly such then therefore though thus under unless "
    "unlike until when where while yes  yet unfortunately ".split()
)
_ENOUGH = 0.6


class Claim(NamedTuple):
    """A number or a name at characters start..end of some words, in the form in which it is compared."""

    start: int
    end: int
    form: str


def supports(answer: str, quote: str) -> bool:
    """Whether a quote holds every number of the answer's first sentence, or most of its words if it has none."""
    first = next(_SENTENCE.finditer(answer.strip()), None)
    return first is not None and _holds(first[0], quote)


def sentences(words: str) -> list[tuple[int, int]]:
    """Where the sentences and lines of some words are."""
    return [each.span() for each in _SENTENCE.finditer(words)]


def held_by(words: str, quotes: Sequence[str]) -> int:
    """The number, from 1, of the first quote that holds every number and most other words; 0 where none does."""
    return next((number for number, quote in enumerate(quotes, 1) if _holds(words, quote)), 0)


def unsupported(words: str, quotes: Sequence[str], question: str = "", pages: Sequence[str] = ()) -> list[Claim]:
    """The numbers, names and dates of some words that none of the quotes holds.

    A name of the question may also stand anywhere on the pages of the quotes.
    """
    held = "\n".join(quotes)
    figures = {each.form for each in _figures(held, everything=True)}
    known = _folded(held) | (_folded(question) & _folded("\n".join(pages)))
    plain = {word for word in _WORD.findall(f"{held} {' '.join(pages)} {question}") if word.islower()}
    missing = [each for each in _figures(words) if each.form not in figures]
    missing += [each for each in _names(words, plain) if each.form not in known]
    return sorted(missing)


def _holds(words: str, quote: str) -> bool:
    figures = {each.form for each in _figures(words)}
    if not figures <= {each.form for each in _figures(quote, everything=True)}:
        return False
    said = {stem for term in terms(words) for stem in stems(term)}
    if figures and unsupported(words, [quote], words, [quote]):
        return False
    # Figures side by side, as in a table, say something together.
    rows = re.findall(r"\d[\d.,]*(?: +\d[\d.,]*)+", words)
    if not said or any(row.rstrip(".,") not in quote for row in rows):
        return False
    return len(said & stems(quote)) >= _ENOUGH * len(said)


def _figures(text: str, everything: bool = False) -> Iterator[Claim]:
    """Numbers in digits and in words; with `everything` also words that may mean something else."""
    for match in _FIGURE.finditer(text):
        yield Claim(*match.span(), _figure(match[0]))
    for match in _SPELLED.finditer(text):
        parts = match[0].lower().split("-")
        if set(parts) <= NUMBER_WORDS.keys() and (everything or len(parts) > 1 or parts[0] not in _ALSO_WORDS):
            yield Claim(*match.span(), str(sum(NUMBER_WORDS[part] for part in parts)))


def _figure(digits: str) -> str:
    """A number in one form, however its thousands are grouped: 1,284 and 1284."""
    if _GROUPED.fullmatch(digits):
        whole, mark, rest = digits, "", ""
        if len({each for each in digits if each in ".,"}) == 2:
            at = max(digits.rfind("."), digits.rfind(","))
            whole, mark, rest = digits[:at], ".", digits[at + 1 :]
        digits = re.sub("[.,]", "", whole) + mark + rest
    return digits.replace(",", ".")


def _names(words: str, plain: set[str]) -> Iterator[Claim]:
    """Words that begin with a capital, but not only because a sentence does."""
    for first, last in sentences(words):
        found = list(_WORD.finditer(words, first, last))
        for index, each in enumerate(found):
            word, small = each[0], each[0].lower()
            if not word[0].isupper() or small in EMPTY or small in NUMBER_WORDS:
                continue
            follows = index + 1 < len(found) and found[index + 1][0][0].isupper()
            if index == 0 and not follows and (small in plain or small in _BEGINS):
                continue
            yield Claim(*each.span(), _fold(word))


def _folded(text: str) -> set[str]:
    return {_fold(word) for word in _WORD.findall(text)}


def _fold(word: str) -> str:
    return re.sub(r"['’]s?$", "", word.casefold())
