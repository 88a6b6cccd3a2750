"""The shared app: an App as one visitor has it, with the documents that are shared and his own conversations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from app.chat import Chat
from app.credentials import Allowance
from app.errors import DocumentNotFound, NotAllowed
from app.events import Answer, Cited, ConversationEntry, DocumentEntry, ReaderStatus, Turn
from app.export import Export
from app.library import Library
from app.listing import listed
from app.questions import Questions
from app.search import Found, Search


@dataclass(frozen=True)
class Whole:
    """What a part is shared of."""

    library: Library
    questions: Questions
    chat: Chat
    search: Search
    status: Callable[[], ReaderStatus]


@dataclass
class Grant:
    """What one visitor may see and do of the whole."""

    whole: Whole
    visitor_id: str
    documents: frozenset[str]
    may_ask: bool
    allowances: tuple[Allowance, ...]

    def require(self, document_id: str) -> None:
        """Raises DocumentNotFound for what is not shared, as for what is not there."""
        if document_id not in self.documents:
            raise DocumentNotFound("This document is not shared.", "Open one from the list.")


class _Restricted:
    """What is not named here is not a visitor's."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotAllowed("This is not shared with visitors.", "Ask whoever shared the documents with you.")


class SharedApp(_Restricted):
    """Shared documents, and the conversations of one visitor; everything else raises NotAllowed."""

    def __init__(self, grant: Grant) -> None:
        super().__init__(grant)
        self.may_ask = grant.may_ask
        self.library = SharedLibrary(grant)
        self.questions = SharedQuestions(grant)
        self.chat = SharedChat(grant)
        self.search = SharedSearch(grant)
        # The file itself is not shared, so there is no marked copy of it.
        self.export = Export(self.chat, self.library)

    def status(self) -> ReaderStatus:
        """The reader's name and state; why it was chosen tells of the machine and its folders."""
        status = self._grant.whole.status()
        return replace(status, name=status.name.replace("\\", "/").rsplit("/", 1)[-1], why="", better="", doing="")


class SharedLibrary(_Restricted):
    """The documents that are shared, to be looked at."""

    def __init__(self, grant: Grant) -> None:
        super().__init__(grant)
        self.catalogue = SharedCatalogue(grant)

    def page_image(self, document_id: str, number: int, width_px: int = 1100) -> bytes:
        """A picture of a page (1-based)."""
        self._grant.require(document_id)
        return self._grant.whole.library.page_image(document_id, number, width_px)

    def original(self, document_id: str) -> AbstractContextManager[Path]:
        """As `Library.original`."""
        self._grant.require(document_id)
        return self._grant.whole.library.original(document_id)

    def suggested(self, document_id: str) -> tuple[str, ...]:
        """As `Library.suggested`; none where nothing may be asked."""
        self._grant.require(document_id)
        return self._grant.whole.library.suggested(document_id) if self._grant.may_ask else ()

    def guide(self, document_id: str) -> Answer | None:
        """As `Library.guide`."""
        self._grant.require(document_id)
        return self._grant.whole.library.guide(document_id)

    def presets(self, document_id: str) -> None:
        """How a document is kept is its owner's affair."""
        self._grant.require(document_id)


class SharedCatalogue(_Restricted):
    """What a visitor may know of the documents."""

    sort = "added"

    def entries(self, search: str = "", sort: str = "added") -> list[DocumentEntry]:
        """Those of the shared documents that a list shows."""
        found = self._grant.whole.library.catalogue.entries()
        shared = (_without_machine(each) for each in found if each.document_id in self._grant.documents)
        return listed(shared, search, sort)

    def entry(self, document_id: str) -> DocumentEntry:
        """One document. Raises DocumentNotFound."""
        self._grant.require(document_id)
        return _without_machine(self._grant.whole.library.catalogue.entry(document_id))

    def labels(self, document_id: str) -> tuple[str, ...]:
        """As `Catalogue.labels`. Raises DocumentNotFound."""
        self._grant.require(document_id)
        return self._grant.whole.library.catalogue.labels(document_id)


class SharedQuestions(_Restricted):
    """What a visitor asked."""

    def conversations(self, document_id: str = "") -> list[ConversationEntry]:
        """The visitor's own; of a document that is not shared there is none."""
        return self._grant.whole.questions.conversations(document_id, self._grant.visitor_id)


class SharedSearch(_Restricted):
    """Shared documents and the visitor's own conversations are searched; others are not looked into."""

    def find(self, words: str) -> Found:
        """As `Search.find`."""
        return self._grant.whole.search.find(words, self._grant.documents, self._grant.visitor_id)

    def cited(self, document_id: str, number: int, words: str) -> Cited | None:
        """As `Search.cited`. Raises DocumentNotFound."""
        self._grant.require(document_id)
        return self._grant.whole.search.cited(document_id, number, words)


class SharedChat(_Restricted):
    """A visitor's own conversations about shared documents, with so many questions a minute, until the end."""

    def __init__(self, grant: Grant) -> None:
        super().__init__(grant)
        self._chat = grant.whole.chat

    def ask(self, document_id: str, conversation_id: str, question: str, *, instead_of: int = 0) -> str:
        """As `Chat.ask`. Raises NotAllowed, too."""
        self._grant.require(document_id)
        if instead_of:
            self._require_own(conversation_id)
        self._take()
        return self._chat.ask(document_id, conversation_id, question, self._grant.visitor_id, instead_of)

    def copy(self, conversation_id: str) -> str:
        """As `Chat.copy`. Raises NotAllowed, too."""
        self._require_own(conversation_id)
        self._take()
        return self._chat.copy(conversation_id)

    def expect(self, document_id: str) -> None:
        """As `Chat.expect`. Raises NotAllowed, too."""
        self._grant.require(document_id)
        self._chat.expect(document_id)

    def open(self, documents: Sequence[str]) -> str:
        """As `Chat.open`. Raises NotAllowed, too."""
        for each in documents:
            self._grant.require(each)
        self._take()
        return self._chat.open(documents, self._grant.visitor_id)

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        """As `Chat.documents`; of a conversation that is not his, as of one that is not there."""
        return self._chat.documents(conversation_id) if self._is_own(conversation_id) else ()

    def title(self, conversation_id: str) -> str:
        """As `Chat.title`."""
        return self._chat.title(conversation_id) if self._is_own(conversation_id) else ""

    def again(self, conversation_id: str) -> None:
        """As `Chat.again`. Raises NotAllowed, too."""
        self._require_own(conversation_id)
        self._take()
        self._chat.again(conversation_id)

    def stop(self, conversation_id: str) -> None:
        """As `Chat.stop`."""
        self._require_own(conversation_id)
        self._chat.stop(conversation_id)

    def delete(self, conversation_id: str) -> None:
        """As `Chat.delete`."""
        self._require_own(conversation_id)
        self._chat.delete(conversation_id)

    def bring_back(self, conversation_id: str) -> None:
        """As `Chat.bring_back`."""
        self._chat.bring_back(conversation_id, self._grant.visitor_id)

    def rename(self, conversation_id: str, title: str) -> None:
        """As `Chat.rename`."""
        self._require_own(conversation_id)
        self._chat.rename(conversation_id, title)

    def turns(self, conversation_id: str) -> list[Turn]:
        """As `Chat.turns`; of a conversation that is not his, as of one that is not there."""
        return self._chat.turns(conversation_id) if self._is_own(conversation_id) else []

    def follow(self, conversation_id: str) -> Iterator[Turn]:
        """As `Chat.follow`."""
        return self._chat.follow(conversation_id) if self._is_own(conversation_id) else iter(())

    def end(self) -> None:
        """Ask nothing more; everything that was asked is forgotten, and what is being answered ends."""
        self._grant.may_ask = False
        self._chat.forget(self._grant.visitor_id)

    def _is_own(self, conversation_id: str) -> bool:
        return self._chat.is_owner(self._grant.visitor_id, conversation_id)

    def _require_own(self, conversation_id: str) -> None:
        if not self._is_own(conversation_id):
            raise DocumentNotFound("There is no such conversation.", "Start a new one.")

    def _take(self) -> None:
        if not self._grant.may_ask:
            raise NotAllowed("These documents are shared for reading only.", "Ask whoever shared them with you.")
        if not all(allowance.take() for allowance in self._grant.allowances):
            raise NotAllowed("Too many questions in a short time.", "Wait a minute and ask again.")


def _without_machine(entry: DocumentEntry) -> DocumentEntry:
    """A forecast tells how large the disk is, and adding and sorting documents is their user's affair."""
    return replace(entry, forecast=None, attachments=(), tags=())
