"""Conversations of the app that lives in memory: answers stream word by word."""

import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from app.errors import Busy, DocumentNotFound, QuestionRejected
from app.events import Answer, Cited, DocumentEntry, Turn
from storage import Viewer

PAGES = 98
LINES = (
    "We ended the year with 117.6 million streaming memberships in over",
    "190 countries, an increase of 23.8 million over the prior year. Our",
    "revenues grew 32 percent, and the operating margin rose to 7 percent.",
    "",
    "Streaming content obligations were $17.7 billion at the end of the",
    "year, of which $7.4 billion are due within twelve months. We expect",
    "these obligations to grow as we license and produce more titles, and",
    "we may finance a part of them with further debt.",
)
ANSWER = (
    "The company had **117.6 million streaming memberships** at the end of the year. That is 23.8 million more than "
    "a year earlier, in over 190 countries.\n\nTwo things drove the growth:\n\n- more original titles, and\n- "
    "wider international availability."
)


_TOP, _STEP = 0.1585, 0.025
CITED = (
    Cited(
        1,
        12,
        "12",
        " ".join(LINES[:2])[:-5] + ".",
        ((0.118, _TOP, 0.79, _TOP + 0.021), (0.118, _TOP + _STEP, 0.715, _TOP + _STEP + 0.021)),
        0.92,
    ),
    Cited(
        2,
        44,
        "F-2",
        " ".join(LINES[4:6]),
        (
            (0.118, _TOP + 4 * _STEP, 0.76, _TOP + 4 * _STEP + 0.021),
            (0.118, _TOP + 5 * _STEP, 0.75, _TOP + 5 * _STEP + 0.021),
        ),
        0.61,
    ),
)
NOT_FOUND = "Not found in the document. I looked through all 98 pages; the closest passages are shown."


@dataclass
class FakeConversation:
    """A conversation and its turns."""

    conversation_id: str
    document_id: str
    title: str
    updated_at: datetime
    owner: str = ""
    documents: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    about: str = ""
    turns: list[Turn] = field(default_factory=list)


NOTHING = Answer()
EARLY_PAGES = 20
"""Pages that must be read before a question that says `early` is answered."""


class FakeChat:
    """Answers word by word in a thread; a question that says `early` waits and is revised, one that names a unicorn is
    not found, and one that says `bug` is one."""

    def __init__(self, library: Any, word_seconds: float) -> None:
        self.library = library
        self.word_seconds = word_seconds
        self.known: dict[str, FakeConversation] = {}
        self.deleted: dict[str, FakeConversation] = {}
        self.asked = 0
        self.owner = ""
        self._stops: dict[str, Event] = {}

    def seen_by(self, viewer: Viewer, library: Any) -> "FakeChat":
        seen = copy(self)
        seen.owner, seen.library = viewer.id, library
        return seen

    def is_own(self, conversation_id: str) -> bool:
        return conversation_id in self.known and self.known[conversation_id].owner == self.owner

    def forget(self) -> None:
        for conversation_id in [key for key in self.known if self.is_own(key)]:
            self.delete(conversation_id)

    def expect(self, document_id: str) -> None:
        pass

    def open(self, documents: Sequence[str]) -> str:
        for each in documents:
            self.library.entry(each)
        new = FakeConversation(uuid4().hex, documents[0], "", datetime.now(UTC), self.owner, tuple(documents))
        self.known[new.conversation_id] = new
        return new.conversation_id

    def title(self, conversation_id: str) -> str:
        return self.known[conversation_id].title if self.is_own(conversation_id) else ""

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        return self.known[conversation_id].documents if self.is_own(conversation_id) else ()

    def copy(self, conversation_id: str, question: str = "", before: int = 0) -> str:
        old = self.known[conversation_id]
        at = next((n for n, each in enumerate(old.turns) if each.answer.message_id == before), len(old.turns))
        new = replace(old, conversation_id=uuid4().hex, title=question[:80] or f"{old.title} (copy)")
        new.turns, new.versions = old.turns[:at], (*(old.versions or (conversation_id,)), new.conversation_id)
        self.known[new.conversation_id] = new
        for each in new.versions[:-1]:
            self.known[each].versions = new.versions
        return new.conversation_id

    def ask(self, document_id: str, conversation_id: str, question: str, instead_of: int = 0) -> str:
        if conversation_id in self.known and not self.is_own(conversation_id):
            raise DocumentNotFound("This document has no such conversation.", "Start a new one.")
        self.library.catalogue.entry(document_id)
        if not question.strip():
            raise QuestionRejected("The question is empty.", "Write what you would like to know.")
        if "bug" in question:
            raise ValueError("a bug of the tests")
        if instead_of:
            conversation_id = self.copy(conversation_id, question, instead_of)
        conversation_id = conversation_id or uuid4().hex
        new = FakeConversation(
            conversation_id, document_id, question[:80], datetime.now(UTC), self.owner, (document_id,)
        )
        conversation = self.known.setdefault(conversation_id, new)
        conversation.title = conversation.title or question[:80]
        state = "waiting" if "early" in question else "looking"
        conversation.turns.append(
            Turn(question, replace(NOTHING, citations=CITED if "early" in question else ()), state)
        )
        self._begin(conversation)
        return conversation_id

    def again(self, conversation_id: str) -> None:
        conversation = self.known[conversation_id]
        if conversation.turns[-1].is_open:
            raise Busy("An answer is still to come.", "Wait for it.")
        conversation.turns[-1] = replace(conversation.turns[-1], answer=NOTHING, state="looking")
        self._begin(conversation)

    def stop(self, conversation_id: str) -> None:
        self._stops[conversation_id].set()
        turns = self.known[conversation_id].turns
        if turns[-1].is_open:
            turns[-1] = replace(turns[-1], answer=replace(turns[-1].answer, stopped=True), state="stopped")

    def follow(self, conversation_id: str) -> Iterator[Turn]:
        while self.is_own(conversation_id) and (turn := self.known[conversation_id].turns[-1]).state in (
            "looking",
            "answering",
        ):
            yield turn
            time.sleep(0.005)

    def turns(self, conversation_id: str) -> list[Turn]:
        return list(self.known[conversation_id].turns) if self.is_own(conversation_id) else []

    def conversations(self, document_id: str = "") -> list[FakeConversation]:
        mine = [
            each
            for each in self.known.values()
            if document_id in ("", *each.documents) and each.owner == self.owner and each.title
            if self.library.documents.keys() >= set(each.documents)
        ]
        for each in mine:
            each.about = ", ".join(self.library.documents[one].title for one in each.documents)
        return sorted(mine, key=lambda each: each.updated_at, reverse=True)

    def delete(self, conversation_id: str) -> None:
        self.deleted = {conversation_id: self.known.pop(conversation_id)}

    def bring_back(self, conversation_id: str) -> None:
        if conversation_id not in self.deleted or self.deleted[conversation_id].owner != self.owner:
            raise DocumentNotFound("This conversation is gone for good.", "Start a new one.")
        self.known[conversation_id] = self.deleted.pop(conversation_id)

    def rename(self, conversation_id: str, title: str) -> None:
        self.known[conversation_id].title = title

    def _begin(self, conversation: FakeConversation) -> None:
        stop = self._stops[conversation.conversation_id] = Event()
        Thread(target=self._answer, args=(conversation, len(conversation.turns) - 1, stop), daemon=True).start()

    def _answer(self, conversation: FakeConversation, place: int, stop: Event) -> None:
        self.asked += 1
        question = conversation.turns[place].question
        early, found = "early" in question, "unicorn" not in question.lower()

        def entry() -> DocumentEntry:
            return self.library.catalogue.entry(conversation.document_id)

        def put(answer: Answer, state: str) -> None:
            if not stop.is_set():
                conversation.turns[place] = Turn(question, answer, state)

        while early and entry().progress.pages_done < EARLY_PAGES:
            if stop.wait(0.05):
                return
        reading = entry().progress.stage == "reading"
        coverage = f"pages 1-{entry().progress.pages_done} of {PAGES}" if reading else ""
        figures = (0, 3), 12_800, 31, 0.4, 2.1, 18.0, "Fake", "exact"
        cited, documents = CITED, conversation.documents
        if len(documents) > 1:
            cited = tuple(
                replace(each, document_id=key, title=self.library.documents[key].title)
                for each, key in zip(CITED, documents, strict=False)
            )
        answer = Answer("", found, cited, *figures, False, coverage, 94.0, conversation.conversation_id, self.asked)
        put(answer, "answering")
        words = ""
        for piece in ANSWER.split(" ") if found else ():
            if stop.wait(self.word_seconds):
                return
            words += ("" if not words else " ") + piece
            put(replace(answer, answer=words), "answering")
        answer = replace(answer, answer=words if found else NOT_FOUND)
        conversation.updated_at = datetime.now(UTC)
        put(answer, "partial" if early and reading else "done")
        while early and entry().progress.stage == "reading":
            if stop.wait(0.05):
                return
        if early:
            put(replace(answer, coverage="", checked_pages=PAGES), "done")
