"""Connections to the database: write-ahead log, foreign keys on, real transactions, and deletes that erase."""

import time
from sqlite3 import SQLITE_BUSY, OperationalError
from sqlite3 import Connection as SqliteConnection

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.pool import ConnectionPoolEntry

_BUSY_SECONDS = 30
_BUSY_PAUSE_SECONDS = 0.01


def connect(url: str) -> Engine:
    """An engine for a SQLite URL; transactions are deferred unless asked for by `for_writing`."""
    in_memory = make_url(url).database in (None, "", ":memory:")
    engine = create_engine(
        url,
        poolclass=QueuePool,
        # A database in memory is its one connection, which threads then take in turn.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else -1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def for_writing(engine: Engine) -> Engine:
    """The same connections, whose transactions take the write lock at once.

    A transaction that reads first and writes later could find the database changed under it and fail.
    """
    return engine.execution_options(docpod_begin="BEGIN IMMEDIATE")


def _on_connect(connection: SqliteConnection, entry: ConnectionPoolEntry) -> None:
    # Otherwise the driver begins transactions as it sees fit, and leaves schema changes out of them.
    connection.isolation_level = None
    _use_write_ahead_log(connection)
    for pragma in ("foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _use_write_ahead_log(connection: SqliteConnection) -> None:
    """SQLite's own waiting does not cover this, so two processes that make one database at once must."""
    patience_ends = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if error.sqlite_errorcode != SQLITE_BUSY or time.monotonic() > patience_ends:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("docpod_begin", "BEGIN"))
