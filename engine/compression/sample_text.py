"""Text to calibrate models with: the reference texts that come with Python.

Python's reference texts are (c) Python Software Foundation, under the PSF License Agreement version 2, which every
Python brings along (`license()`). They are read where they lie: nothing of them is copied into this program.
"""

import ast
import random
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

MOST_CHARACTERS = 2_000_000
"""Of one kind: more than is ever drawn from it."""


def sample_text() -> str:
    """The Python language reference as plain text, about 460,000 characters: prose, tables and code.

    It differs a little from one version of Python to the next.
    """
    # Half a megabyte that only a calibration needs.
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def texts_of_kinds() -> list[str]:
    """Texts of several kinds that lie on every machine with Python: its reference, the source code of its library, and
    the descriptions of installed packages, which are prose, lists and licences. They differ from machine to machine."""
    sources = (path.read_text("utf-8", "replace") for path in sorted(Path(ast.__file__).parent.glob("*.py")))
    described = {each.name: each.read_text("METADATA") or "" for each in distributions()}
    return [sample_text(), _some_of(sources), _some_of(text for _, text in sorted(described.items()))]


def _some_of(texts: Iterable[str]) -> str:
    """Of some texts, in no order."""
    shuffled = list(texts)
    random.Random(0).shuffle(shuffled)
    return "\n\n".join(shuffled)[:MOST_CHARACTERS]
