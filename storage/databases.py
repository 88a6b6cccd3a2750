"""The databases that a library can be in. What differs between them is in one class each, and nowhere else."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from storage.postgres import Postgres
from storage.sqlite import Sqlite

Database = Sqlite | Postgres
"""Transactions of its `engine` see one state of all rows. Those of its `writing` take turns, and readers never wait for
them, in one process and in many.
"""

Numbered = Sequence[tuple[int, str]]
"""Numbers and texts of pages."""


class WordIndex(Protocol):
    """Full-text search over the pages of each document; both databases find the same pages, by the same scores."""

    def fill(self, connection: Connection, document_id: str, pages: Numbered) -> str:
        """Index every page, in place of what was indexed before; returns a checksum, if it is kept under one."""

    def add(self, connection: Connection, document_id: str, pages: Numbered) -> None:
        """Index further pages."""

    def replace(self, connection: Connection, document_id: str, number: int, before: str, text: str) -> str:
        """Index a page's text in place of the one before; returns as `fill`."""

    def drop(self, connection: Connection, document_id: str) -> None:
        """Forget every word of the document."""

    def search(
        self, connection: Connection, document_id: str, terms: Sequence[str], limit: int
    ) -> list[tuple[int, float]]:
        """Page numbers and BM25 scores, best first; a page needs one of the terms."""

    def search_all(
        self, connection: Connection, document_ids: Sequence[str], words: str, limit: int
    ) -> dict[str, list[int]]:
        """By document, numbers of the pages with every word of a text, best first; the last may be a beginning."""

    def holding(
        self, connection: Connection, document_ids: Sequence[str], terms: Sequence[str]
    ) -> dict[str, list[set[int]]]:
        """By document, for each plain word or phrase the numbers of all pages with it."""


def connect(url: str) -> Database:
    """The database of a URL; nothing is made or changed. Raises StorageError."""
    return Sqlite(url) if url.startswith("sqlite:") else Postgres(url)
