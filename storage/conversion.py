"""The conversion of a home into an encrypted one and back, file by file: each takes the other's place once it is safe
on disk and seen to hold the same, so that one that is interrupted is gone on with, and nothing is ever lost.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from sqlite3 import Connection
from typing import BinaryIO, Literal

from blake3 import blake3

from storage.durable import atomic_file, rename, sync_folder
from storage.errors import HomeBusy, HomeLocked, StorageError
from storage.home import Home
from storage.register import break_seal, is_whole, seal
from storage.sqlite import ERRORS, cipher_connection, is_damage, raw_key
from storage.vault import FILE, Header, is_sealed, opened, sealed_file, vault_of

_FOLDERS = ("documents", "pods", "imports", "quarantine")
_PIECE_BYTES = 1 << 20


def convert(home: Home, to: Literal["encrypted", "plain"]) -> Iterator[Path]:
    """Go on until all of a home that nobody else uses is so, and yield every file that has become so.

    Raises HomeBusy, StorageFull, and StorageError where what was written is not what is read.
    """
    assert home.header is not None
    with home.alone() as alone:
        if not alone:
            raise HomeBusy(f"{home.root} is in use")
        replace(home.header, state="encrypting" if to == "encrypted" else "decrypting").write(home.root)
        break_seal(home.root, home.database)
        # Files on their way of processes that were killed.
        shutil.rmtree(home.root / "uploads", ignore_errors=True)
        for path in _files(home.root):
            if path.name.startswith(".") and path.name.endswith((".partial", ".unlocked")):
                path.unlink()
                continue
            is_set_aside = path.is_relative_to(home.root / "quarantine")
            is_database = _is_database(path) and not (is_set_aside and (to == "encrypted" or is_sealed(path)))
            if (_convert_database if is_database else _convert_file)(path, to):
                yield path
        seal(home.root, home.database)
        if to == "encrypted":
            replace(home.header, state="encrypted").write(home.root)
        else:
            for copy in (home.root / FILE, home.backups / FILE):
                copy.unlink(missing_ok=True)
                sync_folder(copy.parent)


def seen_from_outside(root: Path) -> dict[str, object]:
    """What can be told of an encrypted home without its key: facts by name."""
    try:
        header = Header.read(root)
    except HomeLocked:
        header = None
    database = root / "docpod.sqlite3"
    files = [path for path in _files(root) if ".sqlite3" not in path.name]
    return {
        "encryption": f"{header.state}, by a {header.by}" if header else "vault.json is lost",
        "database": "as it was closed" if is_whole(root, database) else "not closed in good order, or changed since",
        "sealed_files": sum(map(is_sealed, files)),
        "plain_files": [str(path.relative_to(root)) for path in files if not is_sealed(path)],
    }


def _files(root: Path) -> list[Path]:
    found = [path for name in (*_FOLDERS, "backups") for path in (root / name).rglob("*") if path.is_file()]
    known = [path for name in ("library.json", "docpod.sqlite3") if (path := root / name).exists()]
    return [path for path in (*sorted(found), *root.glob(".*.partial"), *known) if path.name != FILE]


def _convert_file(path: Path, to: Literal["encrypted", "plain"]) -> bool:
    """False where it is so already, or is damaged, and then stays as it is: no reader takes it for whole."""
    if is_sealed(path) == (to == "encrypted"):
        return False
    try:
        with path.open("rb") if to == "encrypted" else opened(path) as source:
            before = _digest(source)
            source.seek(0)
            size = path.stat().st_size
            with (sealed_file if to == "encrypted" else atomic_file)(beside := _beside(path), size) as copy:
                shutil.copyfileobj(source, copy, _PIECE_BYTES)
    except ValueError:
        return False
    with opened(beside) if to == "encrypted" else beside.open("rb") as file:
        if _digest(file) != before:
            raise StorageError(f"{path} was written, but reads otherwise")
    rename(beside, path)
    return True


def _convert_database(path: Path, to: Literal["encrypted", "plain"]) -> bool:
    """False where it is so already; one that is damaged is sealed as any file is, or stays sealed."""
    vault, beside = vault_of(path), _beside(path)
    assert vault is not None
    beside.unlink(missing_ok=True)
    old, new = (b"", vault.key) if to == "encrypted" else (vault.key, b"")
    try:
        with closing(cipher_connection(path, old)) as source:
            source.isolation_level = None
            # What is in its log is in the file then.
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            source.execute("PRAGMA journal_mode = DELETE")
            before = _contents(source)
            source.execute(f"ATTACH ? AS copy KEY {raw_key(new)}", (str(beside),))
            source.execute("SELECT sqlcipher_export('copy')")
    except ERRORS as error:
        beside.unlink(missing_ok=True)
        if not is_damage(error):
            raise
        return not _opens(path, new) and _convert_file(path, to)
    with closing(cipher_connection(beside, new)) as copy:
        if _contents(copy) != before:
            raise StorageError(f"{path} was copied, but reads otherwise")
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.chmod(0o600)
    rename(beside, path)
    return True


def _is_database(path: Path) -> bool:
    return ".sqlite3" in path.name and not path.name.endswith("-wal")


def _opens(path: Path, key: bytes) -> bool:
    try:
        with closing(cipher_connection(path, key)) as database:
            return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone())
    except ERRORS:
        return False


def _contents(database: Connection) -> str:
    """A digest of all that a database holds; tables of an index are among them."""
    schema = database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    digest = blake3(repr(schema).encode())
    for kind, name, sql in schema:
        if kind == "table" and not sql.startswith("CREATE VIRTUAL"):
            for row in database.execute(f'SELECT * FROM "{name}"'):
                digest.update(repr(row).encode())
    return digest.hexdigest()


def _digest(file: RawIOBase | BinaryIO) -> str:
    digest = blake3()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.converted.partial")
