"""Full-text search over the pages of one document, by SQLite's FTS5.

Each document has an index of its own: the rarity of a word is then its rarity in this document, whatever else the
library holds, and dropping the index leaves no word of the document behind. The index keeps no copy of the text;
its row ids are page numbers.
"""

from collections.abc import Sequence

from blake3 import blake3
from sqlalchemy import Connection

from storage.scripts import spaced

TOKENIZER = "tokenize='porter unicode61 remove_diacritics 2'"
_PARTS = ("config", "data", "docsize", "idx")
"""The tables that SQLite keeps an index in."""


def fill(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> str:
    """Index (number, text) of every page, in place of what was indexed before; returns the checksum of the index."""
    drop(connection, document_id)
    add(connection, document_id, pages)
    return checksum(connection, document_id)


def add(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index further pages."""
    table = _table(document_id)
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(text, content='', {TOKENIZER})")
    if pages:
        rows = [(number, spaced(text)) for number, text in pages]
        connection.exec_driver_sql(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", rows)


def replace(connection: Connection, document_id: str, number: int, before: str, text: str) -> str:
    """Index a page's text in place of the one before, which an index without a copy has to be told; as `fill`."""
    table = _table(document_id)
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)", (number, spaced(before))
    )
    connection.exec_driver_sql(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", (number, spaced(text)))
    return checksum(connection, document_id)


def drop(connection: Connection, document_id: str) -> None:
    """Forget every word of the document."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_table(document_id)}")


def mend(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index every page anew in place of an index that may be damaged."""
    # A damaged one cannot be dropped, an empty one can.
    add(connection, "", ())
    for part in _PARTS:
        table, empty = (_in_quotes(f"page_search_{each}_{part}") for each in (document_id, ""))
        connection.exec_driver_sql(f"DELETE FROM {table}")
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM {empty}")
    drop(connection, "")
    fill(connection, document_id, pages)
    note_check(connection, document_id)


def note_check(connection: Connection, document_id: str) -> None:
    """Note how the index looks, once it is whole."""
    connection.exec_driver_sql(
        "UPDATE documents SET index_check = ? WHERE id = ?", (checksum(connection, document_id), document_id)
    )


def checksum(connection: Connection, document_id: str) -> str:
    """Of all that the index holds."""
    # What was indexed in this transaction is on the pages of the database then.
    connection.exec_driver_sql("SAVEPOINT flushed")
    connection.exec_driver_sql("RELEASE flushed")
    digest = blake3()
    for part in _PARTS:
        table = _in_quotes(f"page_search_{document_id}_{part}")
        for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2"):
            for value in row:
                digest.update(value if isinstance(value, bytes) else f" {value} ".encode())
    return digest.hexdigest()


def search(connection: Connection, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
    """Page numbers and BM25 scores, best first; a page needs one of the terms."""
    query = _joined(terms, " OR ")
    if not query or not connection.dialect.has_table(connection, f"page_search_{document_id}"):
        return []
    table = _table(document_id)
    rows = connection.exec_driver_sql(
        f"SELECT rowid, -bm25({table}) AS score FROM {table} WHERE {table} MATCH ? ORDER BY score DESC, rowid LIMIT ?",
        (query, limit),
    )
    return [(number, score) for number, score in rows]


def search_all(connection: Connection, document_ids: Sequence[str], words: str, limit: int) -> dict[str, list[int]]:
    """By document, numbers of the pages with every word of a text, the last of which may be a word's beginning; best
    first.
    """
    query, known = _joined(spaced(words).split(), " AND "), indexed(connection)
    found = {}
    for document_id in document_ids:
        sql = f"SELECT rowid FROM {(table := _table(document_id))} WHERE {table} MATCH ? ORDER BY rank, rowid LIMIT ?"
        rows = connection.exec_driver_sql(sql, (f"{query} *", limit)) if query and document_id in known else ()
        found[document_id] = [number for (number,) in rows]
    return found


def holding(connection: Connection, document_ids: Sequence[str], terms: Sequence[str]) -> dict[str, list[set[int]]]:
    """By document, for each plain word or phrase the numbers of all pages with it."""
    queries, known = [_joined([term], "") for term in terms], indexed(connection)
    return {
        each: [_holding(connection, each, query) if each in known else set() for query in queries]
        for each in document_ids
    }


def _holding(connection: Connection, document_id: str, query: str) -> set[int]:
    table = _table(document_id)
    rows = connection.exec_driver_sql(f"SELECT rowid FROM {table} WHERE {table} MATCH ?", (query,)) if query else ()
    return {number for (number,) in rows}


def indexed(connection: Connection) -> set[str]:
    """The ids of the documents that have an index."""
    rows = connection.exec_driver_sql("SELECT substr(name, 13) FROM sqlite_schema WHERE name GLOB 'page_search_*'")
    return {document_id for (document_id,) in rows}


def _joined(terms: Sequence[str], operator: str) -> str:
    """An FTS5 query of the terms."""
    words = (term for term in dict.fromkeys(terms) if any(map(str.isalnum, term)))
    return operator.join(_in_quotes(word.replace("\0", " ")) for word in words)


def _table(document_id: str) -> str:
    return _in_quotes(f"page_search_{document_id}")


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
