"""The glyphs of a PDF page, as PDFium finds them, joined to pieces of text, direction by direction."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from ctypes import byref, c_double
from typing import NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from app.readers.layout import Piece, is_right_to_left

_SNAP_DEGREES = 5
"""Text that is turned by so little more than a right angle was scanned askew."""
_MEANT = {"\x02": "-", "\ufffe": "-", "\xad": "-", "\uf0b7": "•", "\uf0a7": "▪"}
"""What is drawn as a hyphen, such as PDFium's marks for one at the end of a line, and the bullets of symbol fonts."""
_VERTICAL, _DOWN = 3, 270
"""So many characters below each other are vertical writing, which runs in this direction."""
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))
_OVERHANG = 0.3
"""Of the font's size: so far a slanted letter, above all an f, hangs over the space beside it."""


class _Space(NamedTuple):
    """A space, from where to where it is drawn; nowhere in text that is turned."""

    u0: float
    u1: float


_SMALL_WORDS = frozenset(
    "the of and to in a is for der die das und von zu den la le les de des et un une el los las y que en il di e che "
    "het een van och att det og på i w na z do".split()
)


def characters(glyphs: pdfium.PdfTextPage) -> str:
    """PDFium's text with exactly one character for each of its character indices."""
    count = glyphs.count_chars()
    text: str = glyphs.get_text_range() if count else ""
    if len(text) != count:
        text = "".join(chr(raw.FPDFText_GetUnicode(glyphs, index)) for index in range(count))
    return text


def is_unreadable(glyphs: pdfium.PdfTextPage, text: str) -> bool:
    """Whether the characters of a page are not those that it shows, because its fonts do not tell them.

    Half of them without a character, or many that are none, or hardly a letter. Old fonts that tell nothing but keep to
    ASCII are believed where a long text has the small words of a language.
    """
    indices = [index for index, character in enumerate(text) if not character.isspace()]
    if not indices:
        return False
    sample = indices[:: len(indices) // 400 + 1]
    unmapped = sum(raw.FPDFText_HasUnicodeMapError(glyphs, index) == 1 for index in sample)
    if 2 * unmapped > len(sample):
        words = text.lower().split()
        return len(words) < 40 or sum(word in _SMALL_WORDS for word in words) < 0.15 * len(words)
    kinds = Counter(_kind(text[index]) for index in indices)
    return kinds["none"] > 0.2 * len(indices) or (len(indices) > 40 and kinds["alphanumeric"] < 0.05 * len(indices))


def _kind(character: str) -> str:
    if character.isalnum():
        return "alphanumeric"
    return "none" if unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") or character == "\ufffd" else "mark"


def pieces(glyphs: pdfium.PdfTextPage, text: str) -> dict[int, list[Piece]]:
    """The pieces of each direction (degrees counter-clockwise in the page's own coordinates), in the order of drawing.

    `u` runs along the text and `v` from line to line, in points of the page. Right-to-left glyphs stay single, because
    the order in which they were drawn says nothing.
    """
    directions: dict[int, list[Piece]] = {}
    piece: Piece | None = None
    space: _Space | None = None
    direction = 0
    for glyph in _glyphs(glyphs, text):
        turned, new = glyph
        if isinstance(new, _Space):
            # Behind a right-to-left glyph is its left side.
            if piece and not is_right_to_left(piece.text):
                piece.space = True
                if 0 < piece.u1 - new.u0 < _OVERHANG * piece.size:
                    piece.u1 = new.u0
            piece, space = None, new
            continue
        if space and 0 < space.u1 - new.u0 < _OVERHANG * new.size and not is_right_to_left(new.text):
            new.u0 = space.u1
        space = None
        # Of turned glyphs only the ink is known, which leaves more room between them.
        if piece and turned == direction and _joins(piece, new, 0.2 if direction == 0 else 0.45):
            if new.text == piece.text[-1] and new.u1 - piece.u1 < 0.1 * new.size:
                # Drawn twice, to look bold.
                continue
            piece.text += new.text
            piece.u1 = max(piece.u1, new.u1)
            piece.v0, piece.v1 = min(piece.v0, new.v0), max(piece.v1, new.v1)
            continue
        direction, piece = turned, new
        directions.setdefault(direction, []).append(piece)
    upright, vertical = by_direction(directions.pop(0, []))
    directions |= {0: upright} if upright else {}
    if vertical:
        directions.setdefault(_DOWN, []).extend(vertical)
    return directions


def by_direction(pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Upright pieces in rows, and those below each other in columns from the right (as in Japanese), turned to rows."""
    rows: list[Piece] = []
    columns: list[Piece] = []
    start = 0
    for stop in range(1, len(pieces) + 1):
        if stop < len(pieces) and _is_below(pieces[stop - 1], pieces[stop]):
            continue
        run, start = pieces[start:stop], stop
        if len(run) < _VERTICAL:
            rows += run
        else:
            columns += (Piece(p.text, p.v0, -p.u1, p.v1, -p.u0, -p.u0 - 0.1 * p.size, p.size) for p in run)
    return rows, columns


def _is_below(piece: Piece, new: Piece) -> bool:
    """Whether a single letter without case stands right below another, as it was drawn."""
    return (
        len(piece.text) == len(new.text) == 1
        and abs(new.u0 + new.u1 - piece.u0 - piece.u1) < 0.6 * piece.size
        and 0.7 * piece.size < new.base - piece.base < 1.6 * piece.size
        and not (piece.text + new.text).isascii()
    )


def _joins(piece: Piece, new: Piece, room: float) -> bool:
    """Whether a glyph goes on where the piece ends."""
    if abs(new.base - piece.base) > 0.05 * piece.size or abs(new.size - piece.size) > 0.1 * piece.size:
        return False
    if new.u0 <= piece.u0 and piece.u1 == new.u1:
        # One glyph that stands for several characters.
        return True
    return not (is_right_to_left(new.text) or is_right_to_left(piece.text)) and (
        -0.3 * new.size < new.u0 - piece.u1 < room * new.size
    )


def _glyphs(glyphs: pdfium.PdfTextPage, text: str) -> Iterator[tuple[int, Piece | _Space]]:
    """Direction and place of every character, one piece each."""
    handle = glyphs.raw
    box, matrix = raw.FS_RECTF(), raw.FS_MATRIX()
    x, y = c_double(), c_double()
    get_box, at_box = raw.FPDFText_GetLooseCharBox, byref(box)
    line: tuple[float, float] | None = None
    upright = False
    base = font = 0.0
    for index, character in enumerate(text):
        get_box(handle, index, at_box)
        if character.isspace():
            yield 0, _Space(box.left, box.right) if upright else _Space(0.0, 0.0)
            continue
        if (box.bottom, box.top) != line:
            # Glyphs in a row of upright text share these; only the first of them is asked for more.
            line = box.bottom, box.top
            raw.FPDFText_GetMatrix(handle, index, byref(matrix))
            raw.FPDFText_GetCharOrigin(handle, index, byref(x), byref(y))
            base = -y.value
            font = float(raw.FPDFText_GetFontSize(handle, index)) * math.hypot(matrix.c, matrix.d)
            upright = matrix.a > 0 and abs(matrix.b) < 0.08 * matrix.a and matrix.d > 0 and box.top > box.bottom
        if upright:
            v0, v1, size = -box.top, -box.bottom, box.top - box.bottom
            if size < 0.9 * font:
                # A font that does not tell its height: the box is that of the ink.
                size = font
                v0, v1 = min(v0, base - 0.8 * size), max(v1, base + 0.2 * size)
            direction, u0, u1 = 0, box.left, box.right
        else:
            # Whatever the next glyph shares with this one, it is asked for all.
            line = None
            direction, u0, u1, v0, v1, base, size = _turned(handle, index, matrix, x.value, y.value, font)
        character = _MEANT.get(character, character)
        if digit := _SUPERSCRIPTS.get(character):
            yield direction, Piece(digit, u0, v0, u1, v1, base - 0.3 * size, 0.6 * size)
        elif not unicodedata.category(character).startswith("C"):
            yield direction, Piece(character, u0, v0, u1, v1, base, size)


def _turned(
    handle: raw.FPDF_TEXTPAGE, index: int, matrix: raw.FS_MATRIX, x: float, y: float, size: float
) -> tuple[int, float, float, float, float, float, float]:
    """Direction, u0, u1, v0, v1, base and size of a glyph that does not stand upright."""
    degrees = math.degrees(math.atan2(matrix.b, matrix.a)) % 360
    nearest = round(degrees / 90) * 90
    direction = nearest if abs(degrees - nearest) < _SNAP_DEGREES else round(degrees)
    base = across(x, y, direction)[1]
    left, right, bottom, top = c_double(), c_double(), c_double(), c_double()
    raw.FPDFText_GetCharBox(handle, index, byref(left), byref(right), byref(bottom), byref(top))
    corners = [across(a.value, b.value, direction) for a in (left, right) for b in (bottom, top)]
    u0, u1 = min(u for u, _ in corners), max(u for u, _ in corners)
    if direction % 90:
        # The box around a slanted glyph reaches far beside it.
        u0, u1 = (u0 + u1) / 2 - 0.25 * size, (u0 + u1) / 2 + 0.25 * size
    return direction % 360, u0, u1, base - 0.8 * size, base + 0.2 * size, base, size


def across(x: float, y: float, direction: int) -> tuple[float, float]:
    """A point of the page's own coordinates in the frame of a direction, along the text and down its lines; or back.

    The frame's second axis is mirrored, so that the way back is the way there.
    """
    cos, sin = _CIRCLE[direction % 360]
    return x * cos + y * sin, x * sin - y * cos


_CIRCLE = {d: (math.cos(math.radians(d)), math.sin(math.radians(d))) for d in range(360)}
