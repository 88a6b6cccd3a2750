"""Checksums of the files of a folder, noted when they are written: whether they are still the same."""

import json
from pathlib import Path

from blake3 import blake3

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


def _checksum(path: Path) -> str:
    """Empty for a file that is not there."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() if path.exists() else ""
