"""Everything DocPod remembers, behind plain verbs; each verb is one transaction."""

from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from storage.api_keys import ApiKeys
from storage.conversations import Conversations
from storage.database import connect
from storage.documents import Documents
from storage.errors import StorageError
from storage.migrations import migrate
from storage.preferences import Preferences
from storage.readings import Readings


class Store(Documents, Readings, Conversations, Preferences, ApiKeys):
    """The database of a library. Safe under several threads and several processes: readers never wait for writers."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database of a URL, made or brought up to date as needed. Raises NewerDatabase."""
        engine = connect(url)
        try:
            migrate(engine)
        except (StorageError, SQLAlchemyError):
            engine.dispose()
            raise
        return cls(engine)

    def known_files(self) -> set[str]:
        """Every file that a row stands for, relative to the home: bytes of documents and blocks of pods."""
        documents = {f"documents/{document.id}" for document in self.documents()}
        return documents | {f"pods/{name}" for name in self.all_block_files()}
