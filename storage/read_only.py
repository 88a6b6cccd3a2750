"""A home that cannot be written to: its files as they are, and a folder for what is written, which goes at the end."""

import os
import shutil
import tempfile
from pathlib import Path

_LINKED = ("documents", "pods")
"""What would be lost if it were written; so writing it fails."""
_COPIED = ("docpod.sqlite3", "docpod.sqlite3-wal", "library.json", "sealed", "vault.json", "models/kernels")
_PARTS = ("models", "backups")


def is_read_only(root: Path) -> bool:
    """Whether a home is there and can only be read."""
    return root.is_dir() and not os.access(root, os.W_OK)


def stand_in(root: Path) -> Path:
    """A folder that stands in for a home."""
    scratch = Path(tempfile.mkdtemp(prefix="docpod-"))
    for name in _LINKED:
        if (root / name).exists():
            (scratch / name).symlink_to(root / name)
    for folder in _PARTS:
        (scratch / folder).mkdir(mode=0o700)
        for path in (root / folder).iterdir() if (root / folder).exists() else ():
            if f"{folder}/{path.name}" not in _COPIED:
                (scratch / folder / path.name).symlink_to(path)
    for name in _COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, scratch / name)
        elif (root / name).exists():
            shutil.copy2(root / name, scratch / name)
    return scratch
