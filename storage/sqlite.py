"""SQLite, which every home has: write-ahead log, foreign keys on, real transactions, and deletes that erase."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import SQLITE_BUSY
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext

from storage import checks, page_index
from storage.errors import DatabaseDamaged, HomeBusy, HomeLocked, StorageError, StorageFailed, StorageFull
from storage.locks import alone_with
from storage.reserve import release_reserve
from storage.vault import vault_of

try:
    from sqlcipher3 import dbapi2 as sqlcipher
except ModuleNotFoundError:
    sqlcipher = None

ERRORS = (sqlite3.Error, UnicodeDecodeError, *([sqlcipher.Error] if sqlcipher else []))
"""What SQLite raises, also with encryption; and Python, where SQLite's words of damage hold a damaged name."""

_DAMAGE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""The first also where a schema of another kind has the place of ours."""
_LITTLE_ROOM = 1 << 20
_BUSY_SECONDS = 30
_BUSY_PAUSE_SECONDS = 0.01


class Sqlite:
    """A database in a file, or in memory; its rows and indexes of words are checked (see `storage.checks`).

    A transaction that reads first and writes later could find the database changed under it and fail: those that write
    take the write lock at once.
    """

    words = page_index

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.writing = self.engine.execution_options(docpod_begin="BEGIN IMMEDIATE")
        self._path = Path(self.engine.url.database or ":memory:")

    def complete(self, connection: Connection) -> None:
        """Have the rows of all tables checked from now on."""
        checks.check_all(connection)

    def make_room(self) -> None:
        """Give the reserve away where the disk is full."""
        if self.engine.url.database:
            release_reserve(self._path.parent)

    def empty_log(self) -> None:
        """Take deleted rows out of the log too, unless a reader still needs them."""
        with self.engine.connect() as connection:
            # Outside of a transaction, which SQLAlchemy begins of itself.
            connection.execution_options(docpod_begin="SELECT 1").exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """By a file beside the database."""
        with alone_with(self._path.parent / "locks", name):
            yield

    def damaged_rows(self) -> list[str]:
        """Rows that are not what was written."""
        with closing(self.engine.raw_connection()) as connection:
            assert connection.driver_connection is not None
            return [f"row {each.rowid} of {each.table}" for each in checks.damaged(connection.driver_connection)]

    def about(self) -> str:
        """Which SQLite it is."""
        return f"SQLite {sqlite3.sqlite_version}, {self._path}"

    def close(self) -> None:
        """Close every connection; the last one folds the log into the database file."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    """Transactions are deferred unless their connection says otherwise."""
    path = Path(make_url(url).database or ":memory:")
    in_memory = str(path) == ":memory:"
    engine = create_engine(
        url,
        module=sqlcipher if vault_of(path) else None,
        creator=lambda: opened_database(path, timeout=_BUSY_SECONDS),
        poolclass=QueuePool,
        # A database in memory is its one connection, which threads then take in turn.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else -1,
    )
    event.listen(engine, "connect", lambda connection, _: _prepare(connection, engine.url.database or ""))
    event.listen(engine, "begin", _on_begin)
    event.listen(engine, "handle_error", _on_error)
    return engine


def opened_database(path: Path, timeout: float = 5.0) -> SqliteConnection:
    """A connection for any thread, under the key of the home if that is encrypted. Raises HomeLocked."""
    if (vault := vault_of(path)) is None:
        return sqlite3.connect(path, timeout, check_same_thread=False)
    return cipher_connection(path, vault.key, timeout)


def cipher_connection(path: Path, key: bytes = b"", timeout: float = 5.0) -> SqliteConnection:
    """A connection to a database under a key, or to a plain one that can be copied into such. Raises HomeLocked."""
    if sqlcipher is None:
        raise HomeLocked("driver")
    connection: SqliteConnection = sqlcipher.connect(str(path), timeout, check_same_thread=False)
    # It would print what is told of an error anyway.
    connection.execute("PRAGMA cipher_log_level = NONE")
    if key:
        connection.execute(f"PRAGMA key = {raw_key(key)}")
    return connection


def has_encryption() -> bool:
    """Whether SQLite with encryption is installed."""
    return sqlcipher is not None


def raw_key(key: bytes) -> str:
    """As SQLCipher takes a key that is none of a passphrase, in SQL; an empty one is of a plain database."""
    return "''" if not key else f"\"x'{key.hex()}'\""


def is_damage(error: BaseException | None) -> bool:
    """Whether an error says that a database is not what was written, rather than that it cannot be used now."""
    if isinstance(error, ERRORS):
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE
    return isinstance(error, DatabaseDamaged)


def refusal(error: Exception, database: str) -> StorageError | None:
    """What an error of SQLite means for whoever stores something; None where it is a mistake of the program."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        free = shutil.disk_usage(Path(database).parent).free
        # Files beside the database that cannot grow are told as errors of the disk.
        is_full = code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and free < _LITTLE_ROOM)
        return StorageFull(0, free) if is_full else StorageFailed(str(error))
    # Text that is no UTF-8 is found by the driver, which has no code for it.
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith("Could not decode"):
        return DatabaseDamaged(str(error))
    return HomeBusy(str(error)) if code == SQLITE_BUSY else None


def _prepare(connection: SqliteConnection, path: str) -> None:
    # Otherwise the driver begins transactions as it sees fit, and leaves schema changes out of them.
    connection.isolation_level = None
    try:
        _use_write_ahead_log(connection)
        # Triggers call a function of ours.
        checks.equip(connection)
        for pragma in ("foreign_keys=ON", "secure_delete=ON", "trusted_schema=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except ERRORS as error:
        raise refusal(error, path) or error from error


def _use_write_ahead_log(connection: SqliteConnection) -> None:
    """SQLite's own waiting does not cover this, so two processes that make one database at once must."""
    patience_ends = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except ERRORS as error:
            if getattr(error, "sqlite_errorcode", 0) != SQLITE_BUSY or time.monotonic() > patience_ends:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("docpod_begin", "BEGIN"))


def _on_error(context: ExceptionContext) -> None:
    error = context.original_exception
    if isinstance(error, ERRORS) and context.engine is not None:
        told = refusal(error, context.engine.url.database or "")
        if told is not None:
            raise told from error
