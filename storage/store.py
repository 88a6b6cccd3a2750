"""Everything DocPod remembers, behind plain verbs; each verb is one transaction."""

import sqlite3
from collections.abc import Collection
from contextlib import AbstractContextManager, closing
from typing import Self
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from storage import checks
from storage.conversations import Conversations
from storage.databases import Database, connect
from storage.documents import Documents
from storage.errors import DatabaseDamaged, StorageError
from storage.migrations import migrate
from storage.models import ApiKey, Block, Document, Preference
from storage.readings import Readings
from storage.register import Register
from storage.sessions import CHANGES, as_number, count_change
from storage.shelf import Shelf
from storage.vectors import Vectors

LIBRARY = "library"
"""The preference that holds the identity of the library."""


class Store(Documents, Readings, Shelf, Conversations, Vectors):
    """The database of a library. Safe under several threads and several processes: readers never wait for writers."""

    library = ""
    """The identity of the library, which its database and whatever is kept of it elsewhere carry."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database of a URL, made or brought up to date as needed. Raises NewerDatabase."""
        return cls.over(connect(url))

    @classmethod
    def over(cls, database: Database) -> Self:
        """As `open`, and the database is closed where that fails."""
        try:
            migrate(database)
        except (StorageError, SQLAlchemyError):
            database.close()
            raise
        store = cls(database)
        if not store.preference(LIBRARY):
            store.prefer(LIBRARY, uuid4().hex)
        store.library = store.preference(LIBRARY)
        return store

    def register(self) -> Register:
        """What is to be known of this database beside it. Raises DatabaseDamaged where another one is in its place."""
        with self._read() as session:
            values = {each.name: each.value for each in session.scalars(select(Preference))}
            if values.get(LIBRARY) != self.library:
                raise DatabaseDamaged("another one is in its place")
            kept = select(Document.id, Document.file_name).where(Document.state != "deleted")
            names = {each.id: each.file_name for each in session.execute(kept)}
            return Register(self.library, as_number(values.get(CHANGES, "")), names)

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy the whole database, as it is at this moment, and even where its file has no name any more.

        Raises DatabaseDamaged where the copy is not sound.
        """
        with closing(self._database.engine.raw_connection()) as connection:
            assert connection.driver_connection is not None
            connection.driver_connection.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        ours = target.execute("SELECT value FROM preferences WHERE name = ?", (LIBRARY,)).fetchone()
        checks.equip(target)
        if ours != (self.library,) or not checks.is_sound(target):
            raise DatabaseDamaged("its copy is not sound")

    def damaged_rows(self) -> list[str]:
        """Rows that are not what was written; opening the library puts them right where it did not end in good order,
        and `rescue` in any case.
        """
        return self._database.damaged_rows()

    def about(self) -> str:
        """What the database is, and what it leaves to whoever runs it, in a line."""
        return self._database.about()

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Be the only one, among all who have the library open, to work on what is named so. Raises HomeBusy at once
        otherwise.
        """
        return self._database.lock(name)

    def count_backup(self, least: int = 0) -> int:
        """The number of the next backup, above which the database counts on, and above `least`."""
        with self._write() as session:
            if least:
                session.merge(Preference(name=CHANGES, value=str(least)))
            return count_change(session)

    def known_files(self, among: Collection[str] | None = None) -> set[str]:
        """Every file that a row stands for, or of those `among` such, relative to the home: bytes of documents and
        blocks of pods.
        """
        documents = select("documents/" + Document.id).where(Document.state != "deleted")
        blocks = select("pods/" + Block.file_name)
        if among is not None:
            names = [name.partition("/")[2] for name in among]
            documents, blocks = documents.where(Document.id.in_(names)), blocks.where(Block.file_name.in_(names))
        with self._read() as session:
            return {*session.scalars(documents), *session.scalars(blocks)}

    def any_document(self) -> str:
        """The id of one; empty where there is none."""
        with self._read() as session:
            return session.scalar(select(Document.id).where(Document.state != "deleted").limit(1)) or ""

    def preference(self, name: str) -> str:
        """What was chosen last; empty where nothing was."""
        with self._read() as session:
            found = session.get(Preference, name)
            return found.value if found else ""

    def prefer(self, name: str, value: str) -> None:
        """Keep a choice."""
        with self._write() as session:
            session.merge(Preference(name=name, value=value))

    def add_key(self, key: ApiKey) -> None:
        """Keep a key's digest with its name and scopes."""
        with self._write() as session:
            session.add(key)

    def all_keys(self) -> list[ApiKey]:
        """Oldest first."""
        with self._read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    def key_of(self, digest: str) -> ApiKey | None:
        """None where there is none, or none any longer."""
        with self._read() as session:
            return session.scalars(select(ApiKey).where(ApiKey.digest == digest)).one_or_none()

    def delete_key(self, key_id: str) -> None:
        """Whoever has the key has nothing any longer."""
        with self._write() as session:
            session.execute(delete(ApiKey).where(ApiKey.id == key_id))
