"""PostgreSQL, for libraries that several machines share: locks and full text are its own, backups its operator's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Table, create_engine, event, func, make_url, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from storage import word_places
from storage.errors import (
    DatabaseDamaged,
    HomeBusy,
    PlaceRefused,
    StorageAway,
    StorageError,
    StorageFailed,
    StorageFull,
)

log = logging.getLogger(__name__)

_KEY = "hashtextextended(current_schema() || ' docpod ' || :name, 0)"
"""An advisory lock's key: libraries in other schemas of a database have others."""
_SETTINGS = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
"""As long as SQLite waits; and a process that hangs keeps nobody from writing for ever."""
_CONNECTING = {
    "connect_timeout": 10, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 30_000, "client_encoding": "utf8",
}  # fmt: skip
_MEANINGS: dict[str, type[StorageError]] = {
    "08": StorageAway, "57": StorageAway, "25006": StorageAway, "53300": StorageAway, "25P03": StorageAway,
    "55P03": HomeBusy, "40": HomeBusy, "42501": PlaceRefused, "28": PlaceRefused, "3D": PlaceRefused,
    "XX001": DatabaseDamaged, "XX002": DatabaseDamaged, "58": StorageFailed,
}  # fmt: skip
"""By SQLSTATE, or its class. After a fail-over a connection may be to a server that cannot be written to (25006)."""


class Postgres:
    """A database of a server. Reading transactions see one state (REPEATABLE READ). Those that write take an advisory
    lock first and so take turns, as with SQLite: none meets rows that change under it, and none has to be tried again.
    """

    words = word_places

    def __init__(self, url: str) -> None:
        try:
            found = make_url(url)
            if found.get_backend_name() != "postgresql":
                raise PlaceRefused(f"{found.drivername} is no database that DocPod knows")
            self.engine = create_engine(
                found.set(drivername="postgresql+psycopg"),
                isolation_level="REPEATABLE READ",
                pool_pre_ping=True,
                max_overflow=-1,
                connect_args=_CONNECTING,
            )
        except ArgumentError as error:
            raise PlaceRefused("the URL of the database is none, such as postgresql://user@host/name") from error
        except ModuleNotFoundError as error:
            raise PlaceRefused("the packages for PostgreSQL are not installed: pip install '.[postgres]'") from error
        self.writing = self.engine.execution_options(isolation_level="READ COMMITTED", docpod_writes=True)
        self._alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._use: Connection | None = None
        event.listen(self.engine, "connect", _prepare)
        event.listen(self.engine, "begin", _on_begin)
        event.listen(self.engine, "handle_error", _on_error)

    def complete(self, connection: Connection) -> None:
        """Make the table of words."""
        word_places.make(connection)

    def count_on(self, connection: Connection, table: Table) -> None:
        """Number further rows above those that came with numbers of their own."""
        if (column := table.autoincrement_column) is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(select(func.setval(sequence, func.max(column))))

    def make_room(self) -> None:
        """Nothing: the disk is the server's."""

    def empty_log(self) -> None:
        """Nothing: deleted rows go when the server vacuums, and from its log and backups when their time is over."""

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """By an advisory lock, which the server frees with the connection."""
        with self._alone.connect() as connection:
            if not _said(connection, f"pg_try_advisory_lock({_KEY})", name):
                raise HomeBusy(f"{name} is in use elsewhere")
            try:
                yield
            finally:
                # Where the connection is lost the lock is, too.
                with suppress(StorageError, SQLAlchemyError):
                    _said(connection, f"pg_advisory_unlock({_KEY})", name)

    @contextmanager
    def entered(self) -> Iterator[bool]:
        """Have the library open until `close`; whether nobody else has, and then none comes in until the block ends."""
        self._use = connection = self._alone.connect()
        if alone := bool(_said(connection, f"pg_try_advisory_lock({_KEY})", "library")):
            try:
                yield alone
                _said(connection, f"pg_advisory_lock_shared({_KEY})", "library")
            finally:
                _said(connection, f"pg_advisory_unlock({_KEY})", "library")
        else:
            _said(connection, f"pg_advisory_lock_shared({_KEY})", "library")
            yield alone

    def damaged_rows(self) -> list[str]:
        """None: the server itself checks its pages when it reads them."""
        return []

    def about(self) -> str:
        """Which server it is, and whether it would notice damage."""
        with self.engine.connect() as connection:
            version, checks = connection.exec_driver_sql(
                "SELECT current_setting('server_version'), current_setting('data_checksums')"
            ).one()
        noticed = "" if checks == "on" else " Its data checksums are OFF: damage would not be noticed (pg_checksums)."
        where = self.engine.url.render_as_string(hide_password=True).replace("+psycopg", "")
        return f"PostgreSQL {version}, {where}; backups are its operator's.{noticed}"

    def close(self) -> None:
        """Close every connection, and with them give back every lock."""
        if self._use is not None:
            self._use.invalidate()
            self._use.close()
        self.engine.dispose()


def _said(connection: Connection, what: str, name: str) -> object:
    return connection.scalar(text(f"SELECT {what}"), {"name": name})


def _prepare(connection: object, _: ConnectionPoolEntry) -> None:
    connection.autocommit = True  # type: ignore[attr-defined]
    connection.execute(_SETTINGS)  # type: ignore[attr-defined]
    connection.autocommit = False  # type: ignore[attr-defined]


def _on_begin(connection: Connection) -> None:
    if connection.get_execution_options().get("docpod_writes"):
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_KEY})"), {"name": "writing"})


def _on_error(context: ExceptionContext) -> None:
    if context.is_pre_ping:
        # The pool then connects anew.
        return
    error = context.original_exception
    code = getattr(error, "sqlstate", None) or ""
    said = " ".join(str(error).split())
    if code == "53100":
        raise StorageFull(0, 0) from error
    meaning = _MEANINGS.get(code) or _MEANINGS.get(code[:2])
    if meaning is None and (context.is_disconnect or (not code and type(error).__name__ == "OperationalError")):
        meaning = StorageAway
    if meaning is not None:
        raise meaning(f"the database: {said}") from error
