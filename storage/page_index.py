"""Full-text search over the pages of one document, by SQLite's FTS5.

Each document has an index of its own: the rarity of a word is then its rarity in this document, whatever else the
library holds, and dropping the index leaves no word of the document behind. The index keeps no copy of the text;
its row ids are page numbers.
"""

from collections.abc import Sequence

from sqlalchemy import Connection


def fill(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index (number, text) of every page, in place of what was indexed before."""
    drop(connection, document_id)
    add(connection, document_id, pages)


def add(connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
    """Index further pages."""
    table = _table(document_id)
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} "
        "USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
    )
    if pages:
        connection.exec_driver_sql(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", list(pages))


def drop(connection: Connection, document_id: str) -> None:
    """Forget every word of the document."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_table(document_id)}")


def search(connection: Connection, document_id: str, terms: Sequence[str], limit: int) -> list[tuple[int, float]]:
    """Page numbers and BM25 scores, best first; a page needs one of the terms."""
    query = _any_of(terms)
    if not query or not connection.dialect.has_table(connection, f"page_search_{document_id}"):
        return []
    table = _table(document_id)
    rows = connection.exec_driver_sql(
        f"SELECT rowid, -bm25({table}) AS score FROM {table} WHERE {table} MATCH ? ORDER BY score DESC, rowid LIMIT ?",
        (query, limit),
    )
    return [(number, score) for number, score in rows]


def _any_of(terms: Sequence[str]) -> str:
    """An FTS5 query for rows with at least one of the terms."""
    words = (term for term in dict.fromkeys(terms) if any(map(str.isalnum, term)))
    return " OR ".join(_in_quotes(word.replace("\0", " ")) for word in words)


def _table(document_id: str) -> str:
    return _in_quotes(f"page_search_{document_id}")


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
