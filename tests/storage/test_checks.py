"""Checks of rows: whichever single value changes behind the database's back, what was written is there again."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from storage import ApiKey, Home, Keeper, Store, checks, open_library
from storage.database import connect
from storage.migrations import MIGRATIONS, migrate
from tests.damage import change
from tests.storage.rows import A, B, answer, citation, filled


@pytest.fixture
def killed(home: Home) -> Iterator[Path]:
    """The database of a home with something in every table, as a process leaves it that is killed."""
    store = open_library(home).store
    for each in (A, B):
        _, _, conversation_id = filled(store, each)
        store.add_exchange(conversation_id, "And why?", answer(), [citation(1)], parent_id=None)
        store.keep_notes(each, "1-2", [("It is there.", 1, 0, 5)])
        store.add_vectors(each, "encoder", [(1, b"\1\0\0\0", b"\0\1\2\3"), (2, b"", b"")])
    store.rename_document(A, "Ännual report")
    store.add_key(ApiKey(id="dp-1", name="notes", digest="0" * 64, scopes=["read"]))
    store.close()
    assert not list(home.backups.iterdir())
    yield home.database


def rows(path: Path) -> dict[str, list[Any]]:
    """All that a database holds, but for figures that SQLite keeps for itself."""
    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage").fetchall()
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}


def others(value: object) -> list[object]:
    """What may stand in the place of a value; text as bytes, which may be no text."""
    match value:
        case int() | float():
            return [value + 1, -value - 1, b"x", 0.5]
        case str():
            flipped = value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
            return [flipped, "", "longer than all that is there. " * 99, None, value + "\udcff"]
        case bytes():
            return [value[:-1] + bytes([value[-1] ^ 1]) if value else b"x", b"", "text", 0]
    return [0, "", b"x"]


def columns(path: Path) -> list[tuple[str, str]]:
    """All columns of tables that have rows."""
    with closing(sqlite3.connect(path)) as database:
        return [
            (table, column)
            for table, found in rows(path).items()
            for (column,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            if found
        ]


def test_every_row_is_checked_and_any_value_is_put_right(killed: Path, tmp_path: Path) -> None:
    tried = 0
    with closing(sqlite3.connect(killed)) as database, closing(sqlite3.connect(":memory:")) as spoilt:
        checks.equip(database)
        assert {name for name in rows(killed) if "page_search" not in name and "sqlite_" not in name} == {
            *checks._tables(database)
        }
        database.backup(spoilt)
        spoilt.executescript("".join(f"DROP TRIGGER {name};" for (name,) in triggers(spoilt)))
        checks.equip(spoilt)
        good = list(spoilt.iterdump())
        for table, known in checks._tables(database).items():
            for column in (*known, checks.COLUMN):
                for rowid, value in spoilt.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
                    for other in filter(lambda other: other != value, others(value)):
                        data = other.encode("utf-8", "surrogateescape") if isinstance(other, str) else other
                        given = "CAST(? AS TEXT)" if isinstance(other, str) else "?"
                        spoilt.execute("BEGIN")
                        with suppress(sqlite3.IntegrityError):
                            spoilt.execute(f"UPDATE {table} SET {column} = {given} WHERE rowid = ?", (data, rowid))
                            assert not checks.is_sound(spoilt)
                            assert checks.mend(spoilt) == 1
                            assert checks.is_sound(spoilt)
                            assert list(spoilt.iterdump()) == good, (table, column, other)
                            tried += 1
                        spoilt.rollback()
    assert tried > 1000


def triggers(database: sqlite3.Connection) -> list[tuple[str]]:
    """Their names."""
    return database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
