"""Fonts for every script: those of the Noto packages, then the system's."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unicodedata import category

from PIL import ImageFont, features

_PACKAGES = {"manimgx_fonts": "NotoSans[wght].ttf", "manimgx_fonts_cjk": "NotoSansCJK-VF.otf.ttc"}
"""With the file that is tried first in each."""
_SYSTEM = {
    "linux": ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}
_ENDINGS = (".ttf", ".otf", ".ttc")
_SIMPLIFIED_CHINESE = 2
"""Number of its face in Noto's collection; each face there has all letters, in the shapes of one country."""
_NO_CHARACTER = "\U0010ffff"
_PROBE_PX = 32
_SHAPES = features.check_feature("raqm")
"""Whether letters can be joined as their script demands. Without it each one is set alone."""


@dataclass(frozen=True)
class Face:
    """A font file, and the number of the face in it."""

    path: str
    index: int = 0

    def at(self, size: float) -> ImageFont.FreeTypeFont:
        """The face in its regular weight at a size in pixels."""
        return _loaded(self, size)

    def has(self, character: str) -> bool:
        """Whether it has a shape for a character other than the one for characters that it lacks."""
        return _ink(self, character) != _ink(self, _NO_CHARACTER)


def runs(text: str) -> list[tuple[str, Face | None]]:
    """A text in pieces of one face each; None where no font has the letters. What combines stays with its letter."""
    pieces: list[tuple[str, Face | None]] = []
    for character in text:
        face = _face(character)
        if pieces:
            before, last = pieces[-1]
            combines = category(character) in ("Mn", "Mc", "Me", "Cf")
            if (combines and (last is None or last.has(character))) or (face == last and _SHAPES):
                pieces[-1] = (before + character, last)
                continue
        pieces.append((character, face))
    return pieces


@cache
def _face(character: str) -> Face | None:
    return next((face for face in _known() if face.has(character)), None) or next(
        (face for face in _of_the_system() if face.has(character)), None
    )


@cache
def _known() -> tuple[Face, ...]:
    """The packages' faces, the most usual ones first."""
    first: list[Face] = []
    others: list[Face] = []
    for package, usual in _PACKAGES.items():
        spec = find_spec(package)
        for path in sorted(Path(spec.origin).parent.iterdir()) if spec and spec.origin else ():
            if path.suffix in _ENDINGS:
                face = Face(str(path), _SIMPLIFIED_CHINESE if path.suffix == ".ttc" else 0)
                (first if path.name == usual else others).append(face)
    return (*first, *others)


@cache
def _of_the_system() -> tuple[Face, ...]:
    found = []
    for folder in _SYSTEM.get(sys.platform, ()):
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in _ENDINGS:
                face = Face(str(path))
                # A file of a kind that FreeType does not know is no help.
                with suppress(OSError):
                    face.at(_PROBE_PX)
                    found.append(face)
    return tuple(found)


@cache
def _loaded(face: Face, size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(face.path, size, index=face.index)
    # One that has one weight, or none of this name, stays in its own.
    with suppress(OSError, ValueError):
        font.set_variation_by_name("Regular")
    return font


@cache
def _ink(face: Face, character: str) -> tuple[tuple[int, int], bytes]:
    mask = _probe(face).getmask(character)
    return mask.size, bytes(mask)


@cache
def _probe(face: Face) -> ImageFont.FreeTypeFont:
    # Without shaping, which may make several characters of one.
    return ImageFont.truetype(face.path, _PROBE_PX, face.index, layout_engine=ImageFont.Layout.BASIC)
