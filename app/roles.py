"""Roles: who is asking, and may he do this to this document? The one gate before people, visitors and their keys.

What is behind it finds only what is his as well, since every statement of his store does (`storage.ownership`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.chat import Chat
from app.conversations import Asked
from app.credentials import Allowance
from app.errors import DocumentNotFound, NotAllowed
from app.events import ReaderStatus
from app.export import Export
from app.keys import Keys
from app.library import Library
from app.model_handle import ModelHandle
from app.people import Collections
from app.questions import Questions
from app.search import Search
from storage import PersonRole


@dataclass(frozen=True)
class Parts:
    """What a role is a part of, over the store of whoever has it."""

    library: Library
    questions: Questions
    chat: Chat
    search: Search
    keys: Keys
    collections: Collections
    model: ModelHandle


Check = Callable[..., None]
"""Takes the parts and what a verb is told. Raises DocumentNotFound or NotAllowed."""


def _any(parts: Parts, *_: Any, **__: Any) -> None:
    """What is only about his own."""


def _seen(parts: Parts, document_id: str, *_: Any, beside: Iterable[str] = (), **__: Any) -> None:
    for each in (document_id, *beside):
        parts.library.catalogue.document(each)


def _all_seen(parts: Parts, documents: Sequence[str]) -> None:
    for each in documents:
        _seen(parts, each)


def _asked(parts: Parts, asked: Asked, *_: Any) -> None:
    _all_seen(parts, asked.documents)


def _own(parts: Parts, document_id: str, *_: Any, **__: Any) -> None:
    parts.library.catalogue.own(document_id)


def _said(parts: Parts, conversation_id: str, *_: Any, **__: Any) -> None:
    if not parts.chat.documents(conversation_id):
        raise DocumentNotFound("There is no such conversation.", "Start a new one.")


def _rules(by_part: Mapping[str, Mapping[str, Check]]) -> dict[str, Check]:
    named = [(part, names, check) for part, checks in by_part.items() for names, check in checks.items()]
    return {f"{part}.{verb}".lstrip("."): check for part, names, check in named for verb in names.split()}


VISITOR = _rules(
    {
        "": {"library questions chat search export": _any},
        "library": {"catalogue": _any, "original page_image presets suggested guide": _seen},
        "library.catalogue": {"entries find sort": _any, "document entry labels": _seen},
        "questions": {"conversations": _any, "turns regenerate": _said, "ask": _seen, "answer": _asked},
        "chat": {
            "ask expect": _seen,
            "open": _all_seen,
            "copy again stop delete rename": _said,
            # Of others' they tell as of those that there are not.
            "documents title turns follow bring_back": _any,
        },
        "search": {"find": _any, "cited": _seen},
    }
)
"""What a visitor may do, and what is asked about it first; whatever is not named is not his."""
MEMBER = VISITOR | _rules(
    {
        "": {"keys collections model": _any},
        "keys": {"create all revoke": _any},
        "collections": {"all share": _any},
        "model": {"settled calibrated": _any},
        "library": {
            "add receive sample": _any,
            "add_attachment unlock read recognise wait pause cancel delete export archive rename": _own,
            "highlighted": _seen,
        },
        "library.catalogue": {"sort_by": _any, "tag readings": _own},
        "questions": {"delete": _said},
    }
)
"""What a member may do beside that, in a library of his own."""
_ASKS = {
    "chat.ask",
    "chat.copy",
    "chat.open",
    "chat.again",
    "questions.ask",
    "questions.answer",
    "questions.regenerate",
}


class Part:
    """A part of the app as somebody has it: verbs that are not his raise NotAllowed, and others check first."""

    def __init__(self, seen: "Seen", part: object, path: str) -> None:
        self._seen, self._part, self._path = seen, part, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        path = f"{self._path}.{name}".lstrip(".")
        check = self._seen.rules.get(path)
        if check is None:
            raise NotAllowed("This is not shared with you.", "Ask whoever runs DocPod here.")
        found = getattr(self._part, name)
        if any(each.startswith(f"{path}.") for each in self._seen.rules):
            return Part(self._seen, found, path)
        if not callable(found):
            return found

        def checked(*given: Any, **named: Any) -> Any:
            check(self._seen.parts, *given, **named)
            if path in _ASKS:
                self._seen.take()
            return found(*given, **named)

        return checked


class Seen(Part):
    """An App as somebody other than the home's user has it; an owner has everything, and his own conversations."""

    def __init__(
        self,
        whole: Any,
        parts: Parts,
        role: PersonRole,
        name: str = "",
        signs_out: bool = False,
        may_ask: bool = True,
        allowances: Sequence[Allowance] = (),
    ) -> None:
        super().__init__(self, parts, "")
        self.role, self.name, self.signs_out, self.may_ask = role, name, signs_out, may_ask
        self.parts, self.rules = parts, MEMBER if role == "member" else VISITOR
        self._whole, self._allowances = whole, allowances

    def __getattr__(self, name: str) -> Any:
        if self.role == "owner":
            return getattr(self.parts if hasattr(self.parts, name) else self._whole, name)
        return super().__getattr__(name)

    @property
    def export(self) -> Export:
        """As `App.export`, of what he has."""
        return Export(self.chat, self.library)

    def status(self) -> ReaderStatus:
        """The reader's name and state; why it was chosen tells of the machine and its folders."""
        status: ReaderStatus = self._whole.status()
        name = status.name.replace("\\", "/").rsplit("/", 1)[-1]
        return status if self.role == "owner" else replace(status, name=name, why="", better="", doing="", notice="")

    def end(self) -> None:
        """Ask nothing more; everything that was asked is forgotten, and what is being answered ends."""
        self.may_ask = False
        self.parts.chat.forget()

    def take(self) -> None:
        """Count a question. Raises NotAllowed."""
        if not self.may_ask:
            raise NotAllowed("These documents are shared for reading only.", "Ask whoever shared them with you.")
        if not all(allowance.take() for allowance in self._allowances):
            raise NotAllowed("Too many questions in a short time.", "Wait a minute and ask again.")
