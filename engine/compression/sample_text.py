"""Text to calibrate models with: the user's own files, or the reference texts that come with Python.

Python's reference texts are (c) Python Software Foundation, under the PSF License Agreement version 2, which every
Python brings along (`license()`). They are read where they lie: nothing of them is copied into this program.
"""

import argparse
import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

from engine.core.errors import CalibrationFailed

SUFFIXES = (".txt", ".md")
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


def add_options(parser: argparse.ArgumentParser, samples: int, out: str) -> None:
    """Adds what every calibration takes: the model, the text, how much of it, and the folder for what comes `out`."""
    parser.add_argument("--model", default="embedded", help="embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, required=True, help="folder of the embedded model")
    parser.add_argument(
        "--text", type=Path, nargs="+", default=[], help="files, or folders of .txt and .md files (UTF-8)"
    )
    parser.add_argument("--samples", type=int, default=samples, help="texts that are read")
    parser.add_argument("--tokens", type=int, default=0, help="tokens of a sample; 0: 6144 or the model's window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {out}")


def read_text(paths: Sequence[Path]) -> str:
    """The text of files, and of all .txt and .md files in folders, one after the other in the order of their names.

    Raises CalibrationFailed for what is not there, cannot be read, or is not text in UTF-8.
    """
    return "\n\n".join(_read(file) for path in paths for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise CalibrationFailed(f"{path} does not exist; give text files, or folders with .txt or .md files")
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise CalibrationFailed(f"{path} holds no .txt or .md files; give another folder, or the files themselves")
    yield from files


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CalibrationFailed(f"{file} is not text in UTF-8; save it as plain text in UTF-8 first") from error
    except OSError as error:
        raise CalibrationFailed(f"{file} cannot be read ({error.strerror}); check its permissions") from error
