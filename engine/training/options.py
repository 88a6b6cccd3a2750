"""What a calibration takes on the command line: a model, texts in files and folders, and a folder for the outcome."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.core.errors import CalibrationFailed

SUFFIXES = (".txt", ".md")


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
