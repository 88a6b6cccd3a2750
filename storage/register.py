"""The register: what a home knows of its database beside it, so that one that is lost or older is noticed."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from storage.durable import atomic_file, sync_folder
from storage.vault import read_bytes, sealed_file

_FILE = "library.json"
_SEAL = "sealed"


@dataclass(frozen=True)
class Register:
    """As it was written last; empty where nothing was, or where it cannot be read."""

    library: str = ""
    """The identity of the library, which its database and all backups of it carry."""
    changes: int = 0
    """How often documents came or went and backups were made: a database with a lower number is an older one."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The file names of all documents, by id."""

    @classmethod
    def read(cls, home: Path) -> "Register":
        """The register of a home."""
        try:
            return TypeAdapter(cls).validate_json(read_bytes(home / _FILE))
        except (FileNotFoundError, ValueError):
            return cls()

    def write(self, home: Path) -> None:
        """Keep it, whole. Raises StorageFull."""
        if self != Register.read(home):
            text = json.dumps(asdict(self), ensure_ascii=False).encode()
            with sealed_file(home / _FILE, len(text)) as file:
                file.write(text)


def seal(home: Path, database: Path) -> None:
    """Note the checksum of a database that was closed in good order, unless something of it is still in its log."""
    if not (checksum := _checksum(database)):
        return
    with atomic_file(home / _SEAL, len(checksum)) as file:
        file.write(checksum.encode())


def break_seal(home: Path, database: Path) -> bool | None:
    """Whether the database is what it was when it was closed in good order; None where it was not, or not since."""
    try:
        sealed = (home / _SEAL).read_text("ascii", "replace")
        (home / _SEAL).unlink()
    except FileNotFoundError:
        return None
    sync_folder(home)
    return sealed == _checksum(database)


def is_whole(home: Path, database: Path) -> bool:
    """Whether the database is what it was when it was closed in good order, and was not opened since."""
    seal = home / _SEAL
    return seal.exists() and seal.read_text("ascii", "replace") == _checksum(database)


def _checksum(database: Path) -> str:
    log = database.with_name(f"{database.name}-wal")
    if not database.exists() or (log.exists() and log.stat().st_size):
        return ""
    with database.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(home: Path, *paths: Path) -> Path:
    """Move files of a home into its quarantine, under today's date; returns that folder. None of them is ever deleted
    but with the document that it is of.
    """
    today = home / "quarantine" / datetime.now().strftime("%Y-%m-%d")
    for path in paths:
        # What is kept elsewhere is in a folder of the same name there.
        place = today / path.relative_to(home if path.is_relative_to(home) else path.parents[1])
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while place.exists():
            place = place.with_name(f"{place.name}.again")
        shutil.move(path, place)
    return today
