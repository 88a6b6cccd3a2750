"""The databases that a library can be in: what differs between them is asked of one of two classes, nowhere else."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, Engine

from storage.postgres import Postgres
from storage.sqlite import Sqlite


class WordIndex(Protocol):
    """Full-text search over the pages of each document; every database finds the same pages in the same order."""

    def fill(self, connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
        """Index (number, text) of every page, in place of what was indexed before."""

    def add(self, connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
        """Index further pages."""

    def replace(self, connection: Connection, document_id: str, number: int, before: str, text: str) -> None:
        """Index a page's text in place of the one before."""

    def drop(self, connection: Connection, document_id: str) -> None:
        """Forget every word of the document."""

    def indexed(self, connection: Connection) -> set[str]:
        """The ids of the documents that have an index."""

    def checksum(self, connection: Connection, document_id: str) -> str:
        """Of all that the index holds; empty where the database itself keeps its pages under checksums."""

    def mend(self, connection: Connection, document_id: str, pages: Sequence[tuple[int, str]]) -> None:
        """Index every page anew in place of an index that may be damaged."""

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


class Database(Protocol):
    """Writers take turns and readers never wait for them, in one process and in many."""

    @property
    def words(self) -> WordIndex:
        """The index of words of pages."""

    @property
    def engine(self) -> Engine:
        """For transactions that see one state of all rows, and write none."""

    @property
    def writing(self) -> Engine:
        """For transactions that write; nobody else writes while one lasts."""

    def complete(self, connection: Connection) -> None:
        """Make what this database has beside the tables of the models, also after these changed."""

    def make_room(self) -> None:
        """What may help a small write on a full disk."""

    def empty_log(self) -> None:
        """Take deleted rows out of what is beside the tables, where that is the program's business."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Be the only one, among all who have the library open, to work on what is named so; freed however its holder
        ends. Raises HomeBusy at once otherwise.
        """

    def damaged_rows(self) -> list[str]:
        """Rows that are not what was written, as far as that can be told."""

    def about(self) -> str:
        """What the database is, and what it leaves to whoever runs it, in a line."""

    def close(self) -> None:
        """Close every connection."""


def connect(url: str) -> Database:
    """The database of a URL; nothing is made or changed. Raises StorageError."""
    return Sqlite(url) if url.startswith("sqlite:") else Postgres(url)
