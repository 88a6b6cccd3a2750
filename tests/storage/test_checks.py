"""Checks of rows: whichever single value changes behind the database's back, what was written is there again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from storage import ApiKey, Home, Store, checks, open_library
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
            return [bytes([value[0] ^ 1]) + value[1:] if value else b"x", b"", "text", 0]
    return [0, "", b"x"]


def test_every_row_is_checked_and_any_value_is_put_right(killed: Path) -> None:
    tried = 0
    with closing(sqlite3.connect(killed)) as database, closing(sqlite3.connect(":memory:")) as spoilt:
        checks.equip(database)
        assert {name for name in rows(killed) if "page_search" not in name and "sqlite_" not in name} == {
            *checks._tables(database)
        }
        database.backup(spoilt)
        spoilt.executescript("".join(f"DROP TRIGGER {name};" for (name,) in triggers(spoilt)))
        checks.equip(spoilt)
        for table, known in checks._tables(database).items():
            good = spoilt.execute(f"SELECT * FROM {table}").fetchall()
            for column in (*known, checks.COLUMN):
                for rowid, value in spoilt.execute(f"SELECT rowid, {column} FROM {table} LIMIT 2").fetchall():
                    for other in filter(lambda other: other != value, others(value)):
                        data = other.encode("utf-8", "surrogateescape") if isinstance(other, str) else other
                        given = "CAST(? AS TEXT)" if isinstance(other, str) else "?"
                        spoilt.execute("BEGIN")
                        with suppress(sqlite3.IntegrityError):
                            spoilt.execute(f"UPDATE {table} SET {column} = {given} WHERE rowid = ?", (data, rowid))
                            assert not checks.is_sound(spoilt)
                            assert checks.mend(spoilt) == 1
                            assert checks.is_sound(spoilt)
                            assert spoilt.execute(f"SELECT * FROM {table}").fetchall() == good, (column, other)
                            tried += 1
                        spoilt.rollback()
    assert tried > 500


def triggers(database: sqlite3.Connection) -> list[tuple[str]]:
    """Their names."""
    return database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()


def test_a_library_from_before_is_checked_from_now_on(home: Home, killed: Path) -> None:
    good = rows(killed)
    with closing(sqlite3.connect(killed)) as database, database:
        for (name,) in triggers(database):
            database.execute(f"DROP TRIGGER {name}")
        database.execute(f"DROP TABLE {checks.SCHEMA}")
        for later in ("TABLE shares", "TABLE sign_ins", "TABLE people", "INDEX documents_by_owner"):
            database.execute(f"DROP {later}")
        for table in ("documents", "api_keys"):
            database.execute(f"ALTER TABLE {table} DROP COLUMN owner")
        for table in checks._tables(database):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {checks.COLUMN}")
        database.execute("ALTER TABLE documents DROP COLUMN index_check")
        database.execute("DELETE FROM schema_version WHERE version >= 15")
        checks.equip(database)
        assert checks.is_sound(database)
    assert seen(home) == ""
    after = rows(killed)
    # Of these tables the columns have another order now.
    assert [row[0] for row in after["documents"]] == [row[0] for row in good["documents"]]
    for table in ("schema_version", "documents", "api_keys", checks.SCHEMA):
        del good[table], after[table]
    assert after == good
    change(killed, "UPDATE messages SET content = ''")
    assert seen(home) == "The database of the library was damaged; 8 values were put right."


def entries(database: sqlite3.Connection) -> list[tuple[int, str]]:
    """What the schema says of each of its entries."""
    return database.execute("SELECT rowid, sql FROM sqlite_master WHERE sql NOT NULL AND " + checks._KNOWN).fetchall()


def test_any_letter_of_the_schema_is_put_right(home: Home, killed: Path) -> None:
    """SQLite takes a trigger, or a column, of another name for what was meant."""
    random = Random(0)
    with closing(sqlite3.connect(killed)) as whole:
        good = entries(whole)
        assert len(good) > 40
        for rowid, sql in good:
            # What keeps the checks has to be a table; otherwise a backup takes the place.
            place = random.randrange(sql.index("("), len(sql))
            flipped = sql[:place] + chr(ord(sql[place]) ^ 1 << random.randrange(7)) + sql[place + 1 :]
            with closing(sqlite3.connect(":memory:")) as spoilt:
                whole.backup(spoilt)
                checks.equip(spoilt)
                assert checks.is_sound(spoilt)
                spoilt.execute("PRAGMA writable_schema = ON")
                spoilt.execute("UPDATE sqlite_master SET sql = ? WHERE rowid = ?", (flipped, rowid))
                with suppress(sqlite3.DatabaseError):
                    spoilt.execute("PRAGMA writable_schema = RESET")
                    assert not checks.is_sound(spoilt)
                assert checks.mend(spoilt) == 1 and checks.is_sound(spoilt), flipped
                assert entries(spoilt) == good
    change_schema(killed, "documents_inserted", "NEW.title", "NEW.titlo")
    assert seen(home) == "The database of the library was damaged; 1 value was put right."
    with closing(sqlite3.connect(killed)) as database:
        assert entries(database) == good


def change_schema(path: Path, name: str, old: str, new: str) -> None:
    """Change what the schema of a database says of a thing, behind SQLite's back."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = ?", (old, new, name))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE conversations SET is_deleted = 32",
        "UPDATE conversations SET document_id = 'x' || document_id",
        "UPDATE messages SET conversation_id = 'x' || conversation_id",
        "UPDATE sections SET identity = 'x' || identity",
        "UPDATE documents SET id = 'x' || id",
        "UPDATE preferences SET value = '0' || value WHERE name = 'library'",
        "UPDATE schema_version SET version = 1000 + version WHERE version = (SELECT max(version) FROM schema_version)",
    ],
)
def test_after_a_kill_what_changed_is_put_right_and_said(home: Home, killed: Path, sql: str) -> None:
    good = rows(killed)
    change(killed, sql)
    assert rows(killed) != good
    assert "put right" in (said := seen(home)) and "value" in said
    assert rows(killed) == good
    assert seen(home) == ""


def seen(home: Home) -> str:
    """What is said of a library that is opened; it is closed again, as by a kill."""
    opened = open_library(home)
    opened.store.close()
    return opened.said


def test_a_change_in_an_index_of_words_is_put_right(home: Home, killed: Path) -> None:
    def found(store: Store) -> list[Any]:
        return [(store.search_pages(each, ["zanzibar"], 9), store.pages_with([each], "zanz", 9)) for each in (A, B)]

    store, tried = open_library(home).store, 0
    good = found(store)
    store.close()
    assert all(len(each) == 2 for each, _ in good)
    for table, kept in rows(killed).items():
        names = [f"{name} IS ?" for name in column_names(killed, table)] if f"page_search_{A}_" in table else []
        for row in kept:
            for place, name in enumerate(names):
                for other in (b"", 5, row[place][:-1] + b"x" if isinstance(row[place], bytes) else -1):
                    with suppress(sqlite3.IntegrityError):
                        where = " AND ".join(names)
                        change(killed, f"UPDATE {table} SET {name.split()[0]} = ? WHERE {where}", (other, *row))
                        opened = open_library(home)
                        assert found(opened.store) == good
                        assert opened.said == ""
                        opened.store.close()
                        tried += 1
    assert tried > 20


def column_names(path: Path, table: str) -> list[str]:
    """Of a table."""
    with closing(sqlite3.connect(path)) as database:
        return [name for (name,) in database.execute("SELECT name FROM pragma_table_info(?)", (table,))]
