"""The shared app: an App as one visitor has it, with the documents that are shared and his own conversations."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import Any, NoReturn
from weakref import WeakSet

from app.credentials import Allowance
from app.errors import DocumentNotFound, NotAllowed
from app.events import AskEvent, ConversationEntry, DocumentEntry, ReaderStatus, Turn
from app.library import Library
from app.questions import Questions


class _Restricted:
    """What is not named here is not a visitor's."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotAllowed("This is not shared with visitors.", "Ask whoever shared the documents with you.")


class SharedApp(_Restricted):
    """Shared documents, and the conversations of one visitor; everything else raises NotAllowed."""

    def __init__(
        self,
        library: Library,
        questions: Questions,
        status: Callable[[], ReaderStatus],
        documents: frozenset[str],
        may_ask: bool,
        allowances: tuple[Allowance, ...],
    ) -> None:
        self.may_ask = may_ask
        self.library = SharedLibrary(library, documents)
        self.questions = SharedQuestions(questions, self.library, may_ask, allowances)
        self._status = status

    def status(self) -> ReaderStatus:
        """The reader's name and state; why it was chosen tells of the machine and its folders."""
        status = self._status()
        return replace(status, name=status.name.replace("\\", "/").rsplit("/", 1)[-1], why="", better="", doing="")


class SharedLibrary(_Restricted):
    """The documents that are shared, to be looked at."""

    def __init__(self, library: Library, documents: frozenset[str]) -> None:
        self._library = library
        self._documents = documents
        self.catalogue = SharedCatalogue(library, self.require, documents)

    def require(self, document_id: str) -> None:
        """Raises DocumentNotFound for what is not shared, as for what is not there."""
        if document_id not in self._documents:
            raise DocumentNotFound("This document is not shared.", "Open one from the list.")

    def page_image(self, document_id: str, number: int, width_px: int = 1100) -> bytes:
        """A picture of a page (1-based)."""
        self.require(document_id)
        return self._library.page_image(document_id, number, width_px)

    def presets(self, document_id: str) -> None:
        """How a document is kept is its owner's affair."""
        self.require(document_id)


class SharedCatalogue(_Restricted):
    """What a visitor may know of the documents."""

    def __init__(self, library: Library, require: Callable[[str], None], documents: frozenset[str]) -> None:
        self._library = library
        self._require = require
        self._documents = documents

    def entries(self, search: str = "") -> list[DocumentEntry]:
        """The shared documents, newest first."""
        found = self._library.catalogue.entries(search)
        return [_without_machine(entry) for entry in found if entry.document_id in self._documents]

    def entry(self, document_id: str) -> DocumentEntry:
        """One document. Raises DocumentNotFound."""
        self._require(document_id)
        return _without_machine(self._library.catalogue.entry(document_id))


class SharedQuestions(_Restricted):
    """A visitor's own questions, so many a minute, until the end."""

    def __init__(
        self, questions: Questions, library: SharedLibrary, may_ask: bool, allowances: tuple[Allowance, ...]
    ) -> None:
        self._questions = questions
        self._library = library
        self._may_ask = may_ask
        self._allowances = allowances
        self._answering: WeakSet[Event] = WeakSet()

    def ask(
        self, document_id: str, question: str, conversation_id: str = "", stop: Event | None = None, **options: Any
    ) -> Iterator[AskEvent]:
        """As `Questions.ask`. Raises NotAllowed, too."""
        self._library.require(document_id)
        return self._questions.ask(document_id, question, conversation_id, self._begin(stop), **options)

    def regenerate(self, conversation_id: str, stop: Event | None = None) -> Iterator[AskEvent]:
        """As `Questions.regenerate`. Raises NotAllowed, too."""
        return self._questions.regenerate(conversation_id, self._begin(stop))

    def conversations(self, document_id: str) -> list[ConversationEntry]:
        """The visitor's own about a shared document."""
        self._library.require(document_id)
        return self._questions.conversations(document_id)

    def turns(self, conversation_id: str) -> list[Turn]:
        """One of his own."""
        return self._questions.turns(conversation_id)

    def delete(self, conversation_id: str) -> None:
        """Forget one of his own."""
        self._questions.delete(conversation_id)

    def end(self) -> None:
        """Ask nothing more; an answer that is being given stops."""
        self._may_ask = False
        for stop in list(self._answering):
            stop.set()

    def _begin(self, stop: Event | None) -> Event:
        if not self._may_ask:
            raise NotAllowed("These documents are shared for reading only.", "Ask whoever shared them with you.")
        if not all(allowance.take() for allowance in self._allowances):
            raise NotAllowed("Too many questions in a short time.", "Wait a minute and ask again.")
        stop = stop or Event()
        self._answering.add(stop)
        return stop


def _without_machine(entry: DocumentEntry) -> DocumentEntry:
    """A forecast tells how large the disk is."""
    return replace(entry, forecast=None)
