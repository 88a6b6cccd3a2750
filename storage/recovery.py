"""The opening of a library: a database that was lost gives way to its newest sound copy, and no file goes unasked."""

import logging
import shutil
from contextlib import closing
from datetime import datetime
from pathlib import Path
from sqlite3 import SQLITE_CONSTRAINT
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from storage import checks
from storage.blobs import BlobStore
from storage.durable import atomic_file
from storage.errors import DatabaseDamaged, HomeBusy, StorageError
from storage.home import Home
from storage.object_store import is_kept, remove, store_of
from storage.postgres import Postgres
from storage.register import Register, break_seal, set_aside
from storage.sessions import CHANGES, as_number
from storage.sqlite import ERRORS, is_damage, opened_database, refusal
from storage.store import LIBRARY, Store
from storage.vault import vault_of

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A library that was opened."""

    store: Store
    unknown: dict[str, str]
    """Originals that the database does not know: by id, their file names as far as these are known."""
    said: str
    """What happened to the database, in whole sentences; empty where nothing did."""
    changed: bool
    """Whether the database may have changed since it was backed up."""


class _Copy(NamedTuple):
    path: Path
    library: str
    changes: int
    mended: int
    """Values of it that were put right."""

    def goes_on(self, register: Register) -> bool:
        """Whether this is the newest state of the registered library."""
        return not register.library or (self.library == register.library and self.changes >= register.changes)


def open_library(home: Home, check: bool = False) -> Opened:
    """Open the database of a home, or what can be made of it; with `check` even where it was closed in good order.

    Raises NewerDatabase, HomeBusy for a check beside other processes, and StorageError where the disk fails.
    """
    if home.is_served:
        return _open_served(home, check)
    with home.alone() as alone:
        if check and not alone:
            raise HomeBusy(f"{home.root} is in use")
        register = Register.read(home.root)
        if not alone and register.library and not home.database.stat().st_size:
            raise DatabaseDamaged("it is gone, and another process has the library open")
        is_sealed = break_seal(home.root, home.database) if alone else None
        is_unsure = alone and (check or not is_sealed)
        said, replaced = _recover(home, register, is_sealed) if is_unsure else ("", False)
        store = Store.open(home.database_url)
        _enter(home, store)
        unknown: list[str] = []
        if is_unsure:
            store.mend_indexes()
        if alone:
            # Nobody else is here, so that no visitor is either.
            store.delete_conversations_of_visitors()
            if replaced:
                store.count_backup(register.changes)
                _settle(home, store, register)
            unknown = _tidy(home, store, not replaced, check)
        return Opened(store, {each: register.names.get(each, "") for each in unknown}, said, alone and not is_sealed)


def _open_served(home: Home, check: bool) -> Opened:
    """The library in the database of a server, which keeps itself whole and is backed up by whoever runs it."""
    database = Postgres(home.database_url)
    store = Store.over(database)
    try:
        with database.entered() as alone:
            if check and not alone:
                raise HomeBusy("the library is in use")
            _enter(home, store)
            unknown = []
            if alone:
                store.delete_conversations_of_visitors()
                unknown = _tidy(home, store, True, check)
            return Opened(store, dict.fromkeys(unknown, ""), "", changed=False)
    except (StorageError, SQLAlchemyError, OSError):
        store.close()
        raise


def forget(home: Home, store: Store, document_id: str) -> None:
    """Delete a document with everything that came of it: its files first, since on a full disk the room that they took
    is needed to delete the rest. Raises NotStored.
    """
    original, names, identities = store.doom_document(document_id)
    for name in names:
        remove(home.pods / name)
    for path in (home.root / "quarantine").glob("*/*/*"):
        if path.name.startswith((document_id, *(identity[:16] for identity in identities))):
            path.unlink()
    if not store.keeps_file(original):
        BlobStore(home.bytes).delete(original)
    store.delete_document(document_id)
    note(home, store)


def _enter(home: Home, store: Store) -> None:
    """See that the files are this library's, and let go of copies of what was deleted elsewhere."""
    home.claim(store.library, store.any_document())
    if home.is_remote:
        copies = {f"{path.parent.name}/{path.name}": path for path in home.bytes.glob("[dp]*/[!.]*")}
        for name in copies.keys() - store.known_files(copies):
            copies[name].unlink(missing_ok=True)


def note(home: Home, store: Store) -> None:
    """Keep beside a database of the home what must be known of it where it is lost. Raises StorageFull."""
    if not home.is_served:
        store.register().write(home.root)


def _recover(home: Home, register: Register, is_sealed: bool | None) -> tuple[str, bool]:
    """Put the newest sound copy of the database in its place; says what happened, unless all is well, and whether it
    is another state now.

    One that changed since it was sealed is not sound, as long as there is a copy that is not older.
    """
    database = home.database
    is_empty = not database.stat().st_size
    current = None if is_empty else _inspect(database, mends=True)
    if current and current.goes_on(register):
        if is_sealed is not False or not any(each.goes_on(register) for each in _backups(home)):
            return _put_right(current.mended), False
        current = None
    if is_empty and not register.library and not any(home.documents.iterdir()):
        # A new home.
        return "", False
    copies = ([current] if current else []) + _backups(home)
    best = max(copies, key=lambda copy: (copy.library == register.library, copy.changes), default=None)
    what = "was older than its files" if current else "was gone" if is_empty else "was damaged"
    log.warning("%s %s: going on with %s", database, what, best.path if best else "a new one")
    if current and best is current:
        set_aside(home.root, Path(shutil.copy(database, database.with_name(f"{database.name}.older"))))
        return f"The database of the library {what}.", True
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    parts = database.with_name(f"{database.name}-wal"), database
    set_aside(home.root, *(path for path in parts if path.exists() and path.stat().st_size))
    if best is None:
        database.touch(mode=0o600)
        return f"The database of the library {what}, and there was no backup: documents are entered anew.", True
    with best.path.open("rb") as backup, atomic_file(database, best.path.stat().st_size) as file:
        shutil.copyfileobj(backup, file)
    made = datetime.fromtimestamp(best.path.stat().st_mtime)
    return f"The database of the library {what}; DocPod goes on from its backup of {made:%Y-%m-%d %H:%M}.", True


def _put_right(values: int) -> str:
    mended = "1 value was" if values == 1 else f"{values} values were"
    return f"The database of the library was damaged; {mended} put right." if values else ""


def _backups(home: Home) -> list[_Copy]:
    """Those that are sound, newest first."""
    return [copy for path in sorted(home.backups.glob("*.sqlite3"), reverse=True) if (copy := _inspect(path))]


def _inspect(path: Path, mends: bool = False) -> _Copy | None:
    """What a database is a state of, where it `mends` after values were put right; None for one that is damaged or
    empty. Raises StorageError.
    """
    try:
        with closing(opened_database(path, timeout=30)) as database:
            checks.equip(database)
            mended = 0
            try:
                is_sound = checks.is_sound(database)
            except ERRORS:
                # As where SQLite makes nothing of the schema.
                if not mends:
                    raise
                is_sound = False
            if not is_sound:
                # Where it is encrypted damage is a whole page, which no parity covers.
                if not mends or vault_of(path):
                    return None
                database.execute("BEGIN IMMEDIATE")
                mended = checks.mend(database)
                if not checks.is_sound(database):
                    # What was put right is taken back with the connection.
                    return None
                database.commit()
                log.warning("%s: %d values were put right", path, mended)
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if "documents" not in tables:
                return None
            values = dict(database.execute("SELECT name, value FROM preferences")) if "preferences" in tables else {}
            return _Copy(path, values.get(LIBRARY, ""), as_number(values.get(CHANGES, "")), mended)
    except (DatabaseDamaged, *ERRORS) as error:
        if not is_damage(error) and getattr(error, "sqlite_errorcode", 0) & 0xFF != SQLITE_CONSTRAINT:
            raise refusal(error, str(path)) or error from error
        log.warning("%s: %s", path, error)
    return None


def _settle(home: Home, store: Store, register: Register) -> None:
    """Bring an older database in step with its files: documents that the register does not name any more and whose
    bytes are gone were deleted since, and what misses a part is read again.
    """
    for document in store.documents() if register.library else ():
        if document.id not in register.names and not is_kept(home.documents / document.digest):
            forget(home, store, document.id)
    for reading in store.readings():
        for section in store.sections(reading.id):
            if not all(is_kept(home.pods / block.file_name) for block in store.blocks(section.id)):
                for name in store.drop_blocks(section.id):
                    remove(home.pods / name)


def _tidy(home: Home, store: Store, whole: bool, check: bool) -> list[str]:
    """Finish what was begun, and set aside what is unknown, if the database is `whole`; returns unknown originals. An
    object store, which takes long to list, is looked through for a `check` alone.
    """
    for document_id in store.doomed_documents():
        forget(home, store, document_id)
    remote = store_of(home.documents / "any")
    known, unknown = store.known_files() if check or not remote else set(), []
    for folder in (home.documents, home.pods, home.backups):
        for path in folder.rglob("*"):
            name = path.relative_to(folder.parent).as_posix()
            if not path.is_file() or name in known or (folder == home.backups and not path.name.startswith(".")):
                continue
            if path.name.startswith("."):
                # It was being written when the process ended.
                path.unlink()
            elif remote:
                # A copy of what has a row.
                continue
            elif folder == home.documents and BlobStore.is_name(path.name):
                unknown.append(path.name)
            elif whole:
                log.warning("%s is unknown and was set aside in %s", name, set_aside(home.root, path))
    if remote and check:
        for name in sorted(remote.names() - known):
            if name.startswith("documents/") and BlobStore.is_name(own := name.removeprefix("documents/")):
                unknown.append(own)
            elif whole and name.startswith("pods/"):
                log.warning("%s is unknown and was set aside as %s", name, remote.set_aside(name))
    return unknown
