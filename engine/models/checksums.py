"""Checksums of the files of models: noted when they are written, or remembered from when they were read first."""

import hashlib
import json
from pathlib import Path

from blake3 import blake3

from engine.core.atomic import atomic_write

_FILE = "checksums.json"


def note(folder: Path) -> None:
    """Note what the files of a folder are now."""
    found = {path.name: _checksum(path) for path in sorted(folder.iterdir()) if path.name != _FILE}
    (folder / _FILE).write_text(json.dumps(found))


def damaged(folder: Path, but: str = "") -> list[str]:
    """Names of files that are not what was noted, `but` one that is not looked at.

    Raises FileNotFoundError where nothing was noted.
    """
    try:
        written: dict[str, str] = json.loads((folder / _FILE).read_text())
    except ValueError:
        return [_FILE]
    return [name for name, checksum in written.items() if name != but and _checksum(folder / name) != checksum]


def scrub(models: Path) -> list[Path]:
    """Look at every byte of the models that were loaded: files that changed, though their size and time did not. They
    are digested anew when they are loaded next.
    """
    folders = [path.parent for path in models.glob(f"*/{_FILE}")]
    wrong = [folder / name for folder in folders for name in damaged(folder)]
    memo = models / "digests.json"
    known = remembered(memo)
    for each in list(known):
        path = Path(each.rsplit("|", 3)[0])
        if path.exists() and key(path) == each and sha256(path) != known[each]:
            wrong.append(path)
            del known[each]
    remember(memo, json.dumps(known))
    return wrong


def remembered(memo: Path) -> dict[str, str]:
    """The sha256 of files by their keys, as far as they are known."""
    try:
        known: dict[str, str] = json.loads(memo.read_text())
        return known
    except (FileNotFoundError, ValueError):
        return {}


def remember(memo: Path, text: str) -> None:
    """Write a small file whole, whoever reads or writes it at the same time."""
    with atomic_write(memo) as scratch:
        scratch.write_text(text)


def key(path: Path) -> str:
    """Of what is remembered of a file while it does not change."""
    return f"{path}|{path.stat().st_size}|{path.stat().st_mtime_ns}|finite"


def sha256(path: Path) -> str:
    """Of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(path: Path) -> str:
    """Empty for a file that is not there."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() if path.exists() else ""
