"""Damage to a database that the database does not notice."""

import sqlite3
from contextlib import closing
from pathlib import Path


def change(database: Path, sql: str, values: tuple[object, ...] = ()) -> None:
    """Change values as a disk does, which calls no triggers and asks for no references."""
    with closing(sqlite3.connect(database)) as connection, connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(sql, values)
        for _, made in triggers:
            connection.execute(made)
