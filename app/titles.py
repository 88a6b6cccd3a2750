"""Titles: what a file calls itself, where that says anything, or else the name that its user gave it."""

import re
from pathlib import PurePosixPath

from app.errors import BadName
from app.readers import READERS
from app.readers.base import clean

_PROGRAM = re.compile(
    r"^(?:Microsoft (?:Office )?\w+|PowerPoint|OpenOffice(?:\.org)?|LibreOffice) ?[-–:] ?|"
    r"^(?:Microsoft|Adobe|LibreOffice|OpenOffice|Apache|Google|Apple|WPS) [\w ]+$",
    re.IGNORECASE,
)
"""What programs write in front of a file's name, or instead of a title."""
_NOTHING = re.compile(
    r"(?:(?:un|no) ?-?titled?(?: document| presentation| spreadsheet)?|(?:power ?point )?presentation|document|doc|"
    r"slide|sheet|page|book|title|new|scan(?:ned)?(?: document| image)?|image|none|null|unknown|default|template|"
    r"ohne titel|unbenannt|sans titre|sin t[ií]tulo|senza titolo|без имени|无标题)[ _-]*\(?\d*\)?",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r"\.(?:docx?|xlsx?|pptx?|odt|ods|odp|rtf|indd|qxd|tex|dvi|ps|eps|fm|pub|pages|jpe?g|png|tiff?|"
    + "|".join(suffix.lstrip(".") for form in READERS for suffix in form.suffixes)
    + r")$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3,}|[\u3040-\u9fff\uac00-\ud7a3]{2,}")
_ID = re.compile(r"[0-9a-f]{8,}|[0-9a-f-]{32,}|\{[0-9a-f-]+\}|[\w.]+[-_:/][\d.:/_-]+|\S*\d\S*\d\S*", re.IGNORECASE)
"""One word of digits among letters: a number in somebody's list."""


LONGEST = 200
"""Characters of a name that a user gives."""


def name_of(given: str) -> str:
    """A name that a user gives, on one line. Raises BadName."""
    name = " ".join(clean(given).split())
    if not name:
        raise BadName("A name needs at least one letter.", "Type one, or leave it as it is.")
    if len(name) > LONGEST:
        raise BadName(f"The name has {len(name):,} characters; {LONGEST} are the most.", "Choose a shorter one.")
    return name


def title_of(own: str, file_name: str) -> str:
    """The file's own title where it is one; otherwise its name without the ending.

    No title is what is empty, an id, the name of a file or of a program, or a word for what has no title.
    """
    own = " ".join(clean(own).split())
    said = _PROGRAM.sub("", own).strip()
    path = re.match(r"(?:[a-z]:)?[\\/]|file:|https?:", own, re.IGNORECASE)
    is_title = said == own and _WORD.search(own) and not path
    if is_title and not (_SUFFIX.search(own) or _NOTHING.fullmatch(own) or _ID.fullmatch(own)):
        return own
    return PurePosixPath(file_name).stem or file_name
