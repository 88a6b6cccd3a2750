"""Checks of rows: each row keeps a checksum and the parity of its values, as the disks of an array do, so that one
value that changed behind SQLite's back is found and put right from the others, proven by the checksum.

Triggers write them, in whichever way a row comes or changes. Of the schema, which no trigger sees, a table keeps them.
"""

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import xor
from typing import NamedTuple

from blake3 import blake3
from sqlalchemy import Connection

from storage.errors import DatabaseDamaged

COLUMN = "row_check"
"""Of every table: `_SUM_BYTES` of checksum, then the parity. Earlier programs look at it before they refuse a later
library, so what a column of this name holds stays as it is.
"""
SCHEMA = "schema_checks"
"""The table of checks of what tables, indexes and triggers are, but for indexes of words, which come and go."""
_MASTER, _ENTRY = "sqlite_master", ("type", "name", "tbl_name", "sql")
_KNOWN = "name NOT LIKE 'sqlite_stat%' AND name NOT LIKE 'page_search_%'"
_SUM_BYTES = 8
_Value = str | float | bytes | None
_HEAD = struct.Struct("<cI")
"""The first letter of a value's type and its number of bytes."""
_NUMBERS = {b"i": struct.Struct("<q"), b"r": struct.Struct("<d")}


class Damaged(NamedTuple):
    """A row that is not what was written."""

    table: str
    rowid: int
    columns: Sequence[str]
    check: bytes
    values: Sequence[bytes]
    """Packed, by column."""


def equip(connection: sqlite3.Connection) -> None:
    """Give a connection the functions that triggers and checks call."""
    connection.create_function("docpod_row_check", -1, lambda *facts: _check(_packed(facts)), deterministic=True)
    connection.create_function("docpod_row_sum", -1, lambda *facts: _sum(_packed(facts)), deterministic=True)


def check_all(connection: Connection) -> None:
    """Have the rows of all tables, but for those of indexes of words, and the schema checked from now on."""
    connection.exec_driver_sql(
        f"CREATE TABLE IF NOT EXISTS {SCHEMA} (entry VARCHAR NOT NULL PRIMARY KEY, kept BLOB NOT NULL)"
    )
    tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    for table in (name for name in tables if not name.startswith(("sqlite_", "page_search_"))):
        check_rows(connection, table)
    connection.exec_driver_sql(f"DELETE FROM {SCHEMA}")
    connection.exec_driver_sql(
        f"INSERT INTO {SCHEMA} (entry, kept) "
        f"SELECT type || ' ' || name, {_call(_ENTRY)} FROM sqlite_master WHERE {_KNOWN}"
    )


def check_rows(connection: Connection, table: str) -> None:
    """Have the rows of a table checked from now on; to be called again where it gets a further column."""
    known = [name for (name,) in connection.exec_driver_sql("SELECT name FROM pragma_table_info(?)", (table,))]
    if COLUMN not in known:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {COLUMN} BLOB NOT NULL DEFAULT x''")
    columns = [name for name in known if name != COLUMN]
    connection.exec_driver_sql(f"UPDATE {table} SET {COLUMN} = {_call(columns)}")
    for name, change in (("inserted", "INSERT"), ("updated", f"UPDATE OF {', '.join(columns)}")):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_{name}")
        connection.exec_driver_sql(
            f"CREATE TRIGGER {table}_{name} AFTER {change} ON {table} BEGIN UPDATE {table} "
            f"SET {COLUMN} = {_call(columns, 'NEW.')} WHERE rowid = NEW.rowid; END"
        )


def damaged(database: sqlite3.Connection) -> Iterator[Damaged]:
    """The rows that are not what was written, the schema's too; none in a database from before rows were checked."""
    yield from _damaged_schema(database)
    yield from _damaged_rows(database, _tables(database))


def _damaged_rows(database: sqlite3.Connection, tables: Mapping[str, Sequence[str]]) -> Iterator[Damaged]:
    for table, columns in tables.items():
        rows = database.execute(
            f"SELECT rowid, {COLUMN}, {_typed(columns)} FROM {table} "
            f"WHERE substr({COLUMN}, 1, {_SUM_BYTES}) IS NOT docpod_row_sum({_typed(columns)})"
        )
        for rowid, check, *facts in rows.fetchall():
            kept = check if isinstance(check, bytes) else b""
            yield Damaged(table, rowid, columns, kept, _packed(facts))


def _damaged_schema(database: sqlite3.Connection) -> Iterator[Damaged]:
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SCHEMA,)).fetchone():
        return
    rows = database.execute(
        f"SELECT m.rowid, k.kept, {_typed(_ENTRY)} FROM sqlite_master m LEFT JOIN {SCHEMA} k "
        f"ON k.entry = m.type || ' ' || m.name WHERE {_KNOWN} AND k.kept IS NOT {_call(_ENTRY)}"
    )
    for rowid, check, *facts in rows.fetchall():
        yield Damaged(_MASTER, rowid, _ENTRY, check if isinstance(check, bytes) else b"", _packed(facts))


def mend(database: sqlite3.Connection) -> int:
    """Put right every value that is not what was written; returns how many. To be called in a transaction.

    Raises DatabaseDamaged where more than one value of a row changed.
    """
    # With this SQLite passes over what it makes nothing of in the schema.
    database.execute("PRAGMA writable_schema = ON")
    # What is said of the schema first, and the schema then, since all else rests on it.
    said = {name: columns for name, columns in _tables(database).items() if name == SCHEMA}
    mended = _put_right(database, _damaged_rows(database, said)) + _put_right(database, _damaged_schema(database))
    # As it is now, in this connection too.
    database.execute("PRAGMA writable_schema = RESET")
    # Keys that are looked up may have changed too, in a row or in its index.
    database.execute("REINDEX")
    return mended + _put_right(database, _damaged_rows(database, _tables(database)))


def _put_right(database: sqlite3.Connection, damage: Iterator[Damaged]) -> int:
    rows = list(damage)
    for row in rows:
        column, value = _right(row)
        if row.table == _MASTER and not column:
            raise DatabaseDamaged(f"entry {row.rowid} of the schema")
        given = "?1" if column else _call(row.columns)
        database.execute(f"UPDATE {row.table} SET {column or COLUMN} = {given} WHERE rowid = ?2", (value, row.rowid))
    return len(rows)


def is_sound(database: sqlite3.Connection) -> bool:
    """Whether a database is whole: its pages, indexes, references and rows. Raises what SQLite raises."""
    return (
        database.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
        and database.execute("PRAGMA foreign_key_check").fetchone() is None
        and next(damaged(database), None) is None
    )


def _tables(database: sqlite3.Connection) -> Mapping[str, Sequence[str]]:
    """Tables with checks, and their other columns."""
    found: dict[str, list[str]] = {}
    of_tables = "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
    for table, column in database.execute(f"{of_tables} AND m.sql LIKE '%{COLUMN}%' ORDER BY m.name, c.cid"):
        if column != COLUMN:
            found.setdefault(table, []).append(column)
    return found


def _typed(columns: Sequence[str], of: str = "") -> str:
    """SQL: type and value of every column. Text as bytes, since after damage it may be none."""
    return ", ".join(
        f"typeof({of}{name}), CASE typeof({of}{name}) WHEN 'text' THEN CAST({of}{name} AS BLOB) ELSE {of}{name} END"
        for name in columns
    )


def _call(columns: Sequence[str], of: str = "") -> str:
    return f"docpod_row_check({_typed(columns, of)})"


def _check(values: Sequence[bytes]) -> bytes:
    return _sum(values) + _parity(values).to_bytes(max(map(len, values)), "little")


def _packed(facts: Sequence[_Value]) -> list[bytes]:
    """The values of a row, of which each follows its type."""
    values = []
    for kind, value in zip(facts[::2], facts[1::2], strict=True):
        letter = str(kind)[0].encode()
        data = value if isinstance(value, bytes) else b"" if value is None else _NUMBERS[letter].pack(value)
        values.append(_HEAD.pack(letter, len(data)) + data)
    return values


def _unpacked(value: bytes) -> _Value:
    letter, data = value[:1], value[_HEAD.size :]
    match letter:
        case b"t":
            return data.decode()
        case b"b":
            return data
        case b"n":
            return None
    number: float = _NUMBERS[letter].unpack(data)[0]
    return number


def _sum(values: Sequence[bytes]) -> bytes:
    return blake3(b"".join(values)).digest(_SUM_BYTES)


def _parity(values: Sequence[bytes]) -> int:
    return reduce(xor, (int.from_bytes(value, "little") for value in values))


def _right(row: Damaged) -> tuple[str, _Value]:
    """The column that is not what was written, and what was; no column where it is the check itself.

    Raises DatabaseDamaged.
    """
    total, parity = row.check[:_SUM_BYTES], int.from_bytes(row.check[_SUM_BYTES:], "little")
    wrong = parity ^ _parity(row.values)
    size = max(len(row.check) - _SUM_BYTES, *map(len, row.values))
    if not row.check or not wrong or _sum(row.values) == total:
        return "", None
    for place, (column, value) in enumerate(zip(row.columns, row.values, strict=True)):
        right = int.from_bytes(value, "little") ^ wrong
        # Zeros follow where it is not the longest.
        written = right.to_bytes(size, "little")
        written = written[: _HEAD.size + _HEAD.unpack_from(written)[1]]
        if _sum([*row.values[:place], written, *row.values[place + 1 :]]) == total:
            return column, _unpacked(written)
    raise DatabaseDamaged(f"row {row.rowid} of {row.table}")
