"""Passages: the sentences, lines and table rows of a page that can be quoted, and where they stand on it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from app.lines import CELLS, Line, blocks
from app.question_words import MONTHS
from app.readers import NOTE, Word
from app.words import stems

Box = tuple[float, float, float, float]

MAX_CHARS = 400
SHORT_CHARS = 80
"""A paragraph up to here is quoted with the heading that it stands below, as a value with its label."""
_END = re.compile(
    r"(?:[.!?…؟۔।][\"'”’»)\]]*(?=\s)|;(?=\s+\D))(\s+)(?=\S)|[。！？｡][”’」』）]*()(?=[^”’」』）])"
    r"|(?<=[^\W\d_A-Z]{2}[.!?])()(?=[A-Z][a-z])"
)
"""The space (one of the groups) between two sentences; in scripts without capitals, and where it is missing, too."""
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Col|Capt|St|No|Nos|Nr|Inc|Ltd|Co|Corp|vs|etc|e\.g|i\.e|z\.B|approx|ca|Fig|Figs|Sec|"
    r"Art|Vol|Ch|Eq|al|eds?|Jan|Feb|Aug|Sept?|Oct|Nov|Dec|Mme|Mlle|Sra|Sr|Jr|pp?|Abs|bzw|vgl|inkl|zzgl|Mio|Mrd|Str|Hr|Fr|env|núm|pág|г|ул|др|стр|тыс|млн|млрд|руб)|(?<!\d\s)(?<!/)\b[^\W\d_])\.$"
)
_NUMBER = re.compile(r"\W*(?:\w{1,3}|\d+(?:\.\d+)*[.)]?\s[^\W\d]+(?:\s[^\W\d]+){0,2})[.)]\W*")
"""That of a list item, or a numbered heading that its text follows on the same line."""
_QUESTION = re.compile(r"[?？؟]\W*$")
_DAY = re.compile(rf"\b\d{{1,2}}\.\s+(?:{MONTHS})")
"""No sentence ends within it: "3. März"."""
_OPENING = re.compile(r"(?:[^\n]{0,60}\n){0,2}?[ \t]*(?=[^\W\d_A-ZÀ-ÖØ-ÞА-Я])")
"""What may stand above a sentence that was begun on the page before: a running head and a page number."""
_SENTENCE_END = re.compile(r"[.!?:;。！？؟।…][\"'”’»)\]]*$")
_HEAD_WORDS = 6
_FOOT_CHARS = 12
"""A last line up to here, without a word of three letters, is a page number."""


@dataclass(frozen=True)
class Passage:
    """Characters start..end of a page's text.

    `above` are the lines that it stands below, which say what it is about: of a table row the heads of its columns,
    else its heading; `is_head` says that it is one itself. `before` and `behind` are the rest of its sentence on the
    pages beside.
    """

    page: int
    start: int
    end: int
    text: str
    above: str = ""
    is_row: bool = False
    is_head: bool = False
    before: str = ""
    behind: str = ""

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of its words, with those of its sentence on the pages beside."""
        return stems(f"{self.before} {self.text} {self.behind}")

    @cached_property
    def label_stems(self) -> frozenset[str]:
        """Of a row of figures the stems of the words in front of them."""
        return stems(re.split(r"[\d$€£¥]", self.text, maxsplit=1)[0])

    @property
    def is_note(self) -> bool:
        """Whether it was noted on the page after that was made."""
        return self.text.startswith(NOTE)

    @property
    def quote(self) -> str:
        """The text on one line; of a table row its lines, the heads of its columns first, two spaces between cells."""
        if self.is_row:
            lines = [*self.above.split("\n"), *self.text.split("\n")]
            cells = ([" ".join(cell.split()) for cell in CELLS.split(line.strip("| \t"))] for line in lines)
            return "\n".join(filter(None, map("  ".join, cells)))
        return " ".join(f"{self.before} {self.text} {self.behind}".split())


@lru_cache(maxsize=2048)
def split(page: int, text: str, previous: str = "", following: str = "") -> tuple[Passage, ...]:
    """The passages of a page in order: sentences, list items, or rows of a table; none longer than MAX_CHARS.

    A question and the answer behind it are one, and so are a heading and a few words below it. The texts of the pages
    beside complete a sentence that runs over the page's end. Every question comes back to the same pages.
    """
    before, first = _joint(previous, text)[0], _joint(previous, text)[3]
    last, behind = _joint(text, following)[1:3]
    found = []
    for start, end, above, kind in _pieces(text):
        # What stands below the page's last sentence is no part of it.
        whole = [(start, last), (last, end)] if behind and start < last < end else [(start, end)]
        for a, b in (short for each in whole for short in _shortened(text, *each)):
            if text[a:b].strip():
                sides = before if a < first <= b else "", behind if a < last <= b else ""
                # A whole sentence that a list or a table follows says something itself.
                is_said = text[a:b].rstrip().endswith(":") and len(text[a:b].split()) > _HEAD_WORDS
                is_row, is_head = kind is Line.ROW, kind is Line.HEAD and not is_said
                found.append(Passage(page, a, b, text[a:b], above, is_row, is_head, *sides))
    return tuple(found)


def boxes(passage: Passage, words: Sequence[Word]) -> tuple[Box, ...]:
    """One box per line that a passage covers on its page, as fractions of the page.

    Lines may run in any direction; a line end of the text is one on the page too.
    """
    lines: list[list[float]] = []
    last: Word | None = None
    for word in words:
        if word.start >= passage.end or word.end <= passage.start:
            continue
        between = passage.text[max(0, last.end - passage.start) : word.start - passage.start] if last else "\n"
        if last and "\n" not in between and _same_line(last, word):
            line = lines[-1]
            line[:] = [min(line[0], word.x0), min(line[1], word.y0), max(line[2], word.x1), max(line[3], word.y1)]
        else:
            lines.append([word.x0, word.y0, word.x1, word.y1])
        last = word
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in lines)


def _same_line(last: Word, word: Word) -> bool:
    """Whether a word stands beside the last one: in a row with it, or below or above it where text is turned."""
    across = min(last.x1, word.x1) - max(last.x0, word.x0)
    down = min(last.y1, word.y1) - max(last.y0, word.y0)
    if down > 0.5 * min(last.y1 - last.y0, word.y1 - word.y0):
        return -0.25 < across < 0.01
    is_turned = max(last.y1 - last.y0, word.y1 - word.y0) > 1.5 * max(last.x1 - last.x0, word.x1 - word.x0)
    return is_turned and across > 0.5 * min(last.x1 - last.x0, word.x1 - word.x0) and -0.25 < down < 0.01


def _pieces(text: str) -> Iterator[tuple[int, int, str, Line]]:
    """Start, end, what stands above, and the kind of each sentence with what belongs to it."""
    held: tuple[int, int, str, Line] | None = None  # may go on with the next one
    for block in blocks(text):
        own = list(_sentences(text, block.start, block.end))
        for number, (start, end) in enumerate(own):
            if held is not None:
                is_value = len(own) == 1 and end - start <= SHORT_CHARS and block.kind is not Line.HEAD
                asks = _QUESTION.search(text, held[0], held[1])
                if asks:
                    joins = not _QUESTION.search(text, start, end) and text[end - 1] != ":"
                else:
                    joins = is_value and block.kind is not Line.ROW
                if joins and end - held[0] <= MAX_CHARS:
                    start = held[0]
                else:
                    yield held
                held = None
            piece = (start, end, block.above, block.kind)
            if _QUESTION.search(text, start, end) or (block.kind is Line.HEAD and number == len(own) - 1):
                held = piece
            else:
                yield piece
    if held is not None:
        yield held


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _END.finditer(text, start, end):
        stop, behind = match.span(match.lastindex or 0)
        following = text[behind : behind + 4].lstrip("\"'“‘«([¿¡")[:1]
        if following.islower() or _ABBREVIATION.search(text, start, stop) or _NUMBER.fullmatch(text, start, stop):
            continue
        if _DAY.match(text, max(start, stop - 3)) or _DAY.match(text, max(start, stop - 2)):
            continue
        yield start, stop
        start = behind
    yield start, end


def _shortened(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut what is too long at line ends, as in tables, else between words."""
    while end - start > MAX_CHARS:
        stop = text.rfind("\n", start + 1, start + MAX_CHARS)
        if stop <= start:
            stop = text.rfind(" ", start + 1, start + MAX_CHARS)
        if stop <= start:
            stop = start + MAX_CHARS
        yield start, stop
        start = stop
    yield start, end


@lru_cache(maxsize=2048)
def _joint(text: str, following: str) -> tuple[str, int, str, int]:
    """Of a sentence that runs over a page's end its part before and where that ends, its part behind and where that
    ends; empty and zero where there is none."""
    body, _, foot = text.rstrip().rpartition("\n")
    end = len(body.rstrip()) if len(foot) <= _FOOT_CHARS and not re.search(r"[^\W\d_]{3}", foot) else len(text.rstrip())
    opening = _OPENING.match(following)
    if not opening or not end or _SENTENCE_END.search(text[max(0, end - 4) : end]):
        return "", 0, "", 0
    start = max(text.rfind("\n\n", 0, end), end - MAX_CHARS, 0)
    if not following[opening.end()].islower() or not text[start:end].strip():
        return "", 0, "", 0
    *_, (start, _) = _sentences(text, start, end)
    first, stop = next(_sentences(following, opening.end(), min(len(following), opening.end() + MAX_CHARS)))
    return text[start:end], end, following[first:stop], stop
