"""The only place where database sessions begin and end; every verb of the store is one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import TypeVar

from sqlalchemy.orm import Session

from storage.databases import Database
from storage.errors import DatabaseDamaged, NotStored
from storage.models import Base, Preference

CHANGES = "changes"
"""The preference that numbers the states of a database."""
_CONVERTERS = ("sqlalchemy", "json")
"""Packages in which values of rows become objects."""
Row = TypeVar("Row", bound=Base)


class Sessions:
    """Reading and writing transactions over one database; rows handed out are detached and stay readable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with _values(), Session(self._database.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _write(self, bulk: bool = False) -> Iterator[Session]:
        """All or nothing; raises StorageFull where the disk has no room, for what is `bulk` not even a reserve."""
        if not bulk:
            self._database.make_room()
        with _values(), Session(self._database.writing, expire_on_commit=False) as session, session.begin():
            yield session

    def _empty_log(self) -> None:
        """Take deleted rows out of the log too, and have no backup keep them."""
        with self._write() as session:
            count_change(session, "erased")
        self._database.empty_log()


@contextmanager
def _values() -> Iterator[None]:
    """Raises DatabaseDamaged for a value that is none of its kind, such as a time that is no time."""
    try:
        yield
    except (ValueError, LookupError) as error:
        *_, (innermost, _) = walk_tb(error.__traceback__)
        if innermost.f_globals["__name__"].partition(".")[0] not in _CONVERTERS:
            raise
        raise DatabaseDamaged(f"it holds what was never written ({error})") from error


def count_change(session: Session, *also: str) -> int:
    """Give the database the next number, and note it under further names too."""
    known = session.get(Preference, CHANGES)
    number = as_number(known.value if known else "") + 1
    for name in (CHANGES, *also):
        session.merge(Preference(name=name, value=str(number)))
    return number


def as_number(value: str) -> int:
    """A number that was kept as a choice, or 0 where nothing was. Raises DatabaseDamaged."""
    if value and not value.isdecimal():
        raise DatabaseDamaged(f"{value!r} is no number")
    return int(value or 0)


def stored(session: Session, kind: type[Row], key: object) -> Row:
    """The row of this key; raises NotStored."""
    row = session.get(kind, key)
    if row is None:
        raise NotStored(f"no {kind.__name__.lower()} {key}")
    return row
