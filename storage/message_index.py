"""Full-text search over the messages of all conversations, by SQLite's FTS5; the text stays in the messages table."""

from collections.abc import Sequence

from sqlalchemy import Connection

from storage.models import Message
from storage.page_index import all_of


def add(connection: Connection, message: Message) -> None:
    """Index a message that has its id."""
    connection.exec_driver_sql(
        "INSERT INTO message_search (rowid, content) VALUES (?, ?)", (message.id, message.content)
    )


def rebuild(connection: Connection) -> None:
    """Index what is stored, and nothing else: a deleted row would leave its words in the index until a later merge."""
    connection.exec_driver_sql("INSERT INTO message_search (message_search) VALUES ('rebuild')")


def search(connection: Connection, terms: Sequence[str], limit: int) -> list[int]:
    """Ids of messages with all of the terms, best first."""
    query = all_of(terms)
    if not query:
        return []
    rows = connection.exec_driver_sql(
        "SELECT rowid FROM message_search WHERE message_search MATCH ? ORDER BY rank, rowid DESC LIMIT ?",
        (query, limit),
    )
    return list(rows.scalars())
