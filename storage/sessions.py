"""The only place where database sessions begin and end; every verb of the store is one transaction."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from storage.database import for_writing
from storage.errors import NotStored, StorageFull
from storage.models import Base

Row = TypeVar("Row", bound=Base)


class Sessions:
    """Reading and writing transactions over one engine; rows handed out are detached and stay readable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing_engine = for_writing(engine)

    def close(self) -> None:
        """Close every connection; the last one folds the log into the database file."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        """All or nothing; raises StorageFull where the disk has no room for it."""
        try:
            with Session(self._writing_engine, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                raise
            folder = Path(self._engine.url.database or "").parent
            raise StorageFull(0, shutil.disk_usage(folder).free) from error

    def _empty_log(self) -> None:
        """Take deleted rows out of the write-ahead log too, unless a reader still needs them."""
        with closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def stored(session: Session, kind: type[Row], key: object) -> Row:
    """The row of this key; raises NotStored."""
    row = session.get(kind, key)
    if row is None:
        raise NotStored(f"no {kind.__name__.lower()} {key}")
    return row
