"""Conversations: what was asked and answered about a document, kept and brought back as it was."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from app.errors import AppError, DocumentNotFound
from app.events import Answer, Cited, ConversationEntry, Turn
from app.intake import storing
from app.question_kind import kind_of
from app.titles import name_of
from storage import Citation, Message, MessageState, OpenAnswer, Store


@dataclass(frozen=True)
class Asked:
    """A question where it stands: `messages` were said before it; `again` is its own message, if it is answered anew.

    With a `recipe` only the memory that is kept by it answers. A question that was stored before it is answered has an
    open answer, `answer_id`; an answer that revises an earlier one is checked against so many pages, `checks`.
    `understood` is the question as it is completed from those before it, and empty where it is whole. What is not
    `kept` belongs to whoever keeps the conversation himself, and tells what he has `said` before. Further documents
    that are asked are `beside` the first.
    """

    document_id: str
    question: str
    conversation_id: str = ""
    messages: Sequence[Message] = ()
    again: Message | None = None
    recipe: str = ""
    answer_id: int = 0
    checks: int = 0
    understood: str = ""
    kept: bool = True
    said: Sequence[str] = ()
    beside: tuple[str, ...] = ()

    @property
    def documents(self) -> tuple[str, ...]:
        """All that are asked."""
        return (self.document_id, *self.beside)

    @property
    def whole(self) -> str:
        """The question as it can be understood alone."""
        return self.understood or self.question

    @property
    def earlier(self) -> list[str]:
        """What was asked before of things inside the document, as it was understood, in order."""
        asked = (answer.facts.get("understood") or question.content for question, answer in _pairs(self.messages))
        return [each for each in (*self.said, *asked) if kind_of(each).kind == "inside"]


class Conversations:
    """Remembers the conversations about documents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def asked(
        self, document_id: str, question: str, conversation_id: str, recipe: str, beside: Sequence[str] = ()
    ) -> Asked:
        """A question at the end of a conversation, or of none yet. Raises DocumentNotFound."""
        if not conversation_id:
            return Asked(document_id, question, recipe=recipe, beside=tuple(beside))
        conversation = self._store.conversation(conversation_id)
        if conversation is None or conversation.document_id != document_id:
            raise DocumentNotFound(
                "This document has no such conversation.", "It may have been deleted; start a new one."
            )
        messages, others = self._store.messages(conversation_id), tuple(conversation.beside)
        return Asked(document_id, question, conversation_id, messages, recipe=recipe, beside=others)

    def open(self, documents: Sequence[str]) -> str:
        """A conversation about several documents, without a question yet; its id. Raises DocumentNotFound."""
        first, *others = dict.fromkeys(documents)
        with keeping():
            return self._store.start_conversation(first, "", beside=others).id

    def asked_again(self, conversation_id: str) -> Asked:
        """The last question of a conversation. Raises DocumentNotFound where there is none."""
        messages = self._store.messages(conversation_id)
        conversation = self._store.conversation(conversation_id)
        if conversation is None or len(messages) < 2:
            raise DocumentNotFound("There is no answer to write again.", "Ask a question first.")
        *before, asked, _ = messages
        beside = tuple(conversation.beside)
        return Asked(conversation.document_id, asked.content, conversation_id, before, asked, beside=beside)

    def copy(self, conversation_id: str, question: str = "", before: int = 0) -> str:
        """A conversation once more, or as it was `before` an answer, whose question is asked in it otherwise; its id.

        Raises DocumentNotFound.
        """
        with keeping():
            original = self._store.conversation(conversation_id)
            title = question[:80] or f"{original.title if original else ''} (copy)"
            return self._store.copy_conversation(conversation_id, title, before).id

    def entries(self, document_id: str = "") -> list[ConversationEntry]:
        """Conversations of its viewer, last used first: about a document, or all with what each is about."""
        names = {} if document_id else {each.id: each.name for each in self._store.documents()}
        found = self._store.conversations(document_id)
        versions: dict[str, tuple[str, ...]] = {}
        for each in sorted(found, key=lambda each: each.created_at):
            versions[each.first] = (*versions.get(each.first, ()), each.id)
        return [
            ConversationEntry(
                each.id,
                each.title,
                each.updated_at,
                each.documents,
                versions[each.first],
                ", ".join(names.get(one, "") for one in each.documents),
            )
            for each in found
        ]

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        """The documents that a conversation is about; none where there is no such conversation."""
        conversation = self._store.conversation(conversation_id)
        return conversation.documents if conversation else ()

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it was."""
        messages = self._store.messages(conversation_id)
        cited = self._store.citations([message.id for message in messages])
        several = {each.document_id for own in cited.values() for each in own} - {""}
        found = (self._store.document(each) for each in several)
        titles = {each.id: each.name for each in found if each}
        return [_turn(question.content, answer, cited[answer.id], titles) for question, answer in _pairs(messages)]

    def rename(self, conversation_id: str, title: str) -> None:
        """Call it so from now on. Raises BadName and DocumentNotFound."""
        with keeping():
            self._store.rename_conversation(conversation_id, name_of(title))

    def delete(self, conversation_id: str) -> None:
        """Forget a conversation."""
        self._store.delete_conversation(conversation_id)

    def take(self, document_id: str, title: str, turns: Sequence[Turn]) -> None:
        """Keep a conversation that was held elsewhere. Raises DocumentNotFound."""
        with keeping():
            conversation_id = self._store.start_conversation(document_id, title).id
        for turn in turns:
            cited = tuple(replace(each, document_id="", title="") for each in turn.answer.citations)
            asked = Asked(document_id, turn.question, conversation_id, self._store.messages(conversation_id))
            trouble = {"message": turn.message, "hint": turn.hint} if turn.message else None
            self._store_answer(asked, replace(turn.answer, citations=cited), cast(MessageState, turn.state), trouble)

    def keep(self, asked: Asked, answer: Answer) -> Answer:
        """Keep question, answer and citations in one transaction; the answer then knows where it is kept."""
        if not asked.kept:
            return answer
        state: MessageState = "stopped" if answer.stopped else "done"
        if asked.answer_id:
            if answer.coverage and not answer.stopped:
                state = "partial"
            answer = replace(answer, checked_pages=asked.checks if state == "done" else 0)
        asked = self._store_answer(asked, answer, state)
        return replace(answer, conversation_id=asked.conversation_id, message_id=asked.answer_id)

    def begin(self, asked: Asked, hits: Sequence[Cited] = ()) -> Asked:
        """Store a question before it is answered, with the passages that hold its words so far: its answer is open."""
        return self._store_answer(asked, Answer(citations=tuple(hits)), "waiting")

    def fail(self, asked: Asked, error: AppError) -> None:
        """Store why an open answer cannot be given."""
        trouble = {"message": error.message, "hint": error.hint}
        self._store_answer(asked, Answer(), "failed", trouble)

    def open_ones(self) -> list[tuple[Asked, MessageState]]:
        """Stored questions whose answers are not at their end, oldest first."""
        found = [(self._opened(each), each.answer.state) for each in self._store.open_answers()]
        return [(asked, state) for asked, state in found if asked is not None]

    def stop(self, asked: Asked, so_far: Answer) -> None:
        """End an open answer as far as it came; one that was to be given again, and has no word yet, goes."""
        if asked.again is not None and not so_far.answer and self._store.withdraw_answer(asked.answer_id):
            return
        self._store_answer(asked, replace(so_far, stopped=True), "stopped")

    def _opened(self, each: OpenAnswer) -> Asked | None:
        branch = self._store.branch(each.answer.conversation_id, each.answer.id)
        if len(branch) < 2:
            return None  # deleted meanwhile
        *before, question, answer = branch
        again = question if each.again else None
        beside = tuple(each.beside)
        conversation_id = answer.conversation_id
        return Asked(
            each.document_id, question.content, conversation_id, before, again, answer_id=answer.id, beside=beside
        )

    def _store_answer(
        self, asked: Asked, answer: Answer, state: MessageState, trouble: Mapping[str, str] | None = None
    ) -> Asked:
        """Keep an answer in a state; what is at its end already stands. The question then knows where it is kept."""
        facts = {**asdict(answer), **(trouble or {})}
        for key in ("answer", "found", "citations", "conversation_id", "message_id"):
            del facts[key]
        message = Message(role="assistant", content=answer.answer, found=answer.found, facts=facts, state=state)
        rows = [
            Citation(
                **{key: value for key, value in asdict(each).items() if key != "title"}
                | {"boxes": list(each.boxes), "span": each.span and list(each.span)}
            )
            for each in answer.citations
        ]
        conversation_id = asked.conversation_id
        with keeping():
            if asked.answer_id:
                self._store.settle_answer(asked.answer_id, message, rows)
                return asked
            if asked.again is not None:
                kept = self._store.replace_answer(asked.again.id, message, rows)
            else:
                if not conversation_id or self._store.conversation(conversation_id) is None:
                    title = asked.question[:80]
                    start = self._store.start_conversation
                    conversation_id = start(asked.document_id, title, conversation_id, asked.beside).id
                parent = asked.messages[-1].id if asked.messages else None
                _, kept = self._store.add_exchange(conversation_id, asked.question, message, rows, parent)
        return replace(asked, conversation_id=conversation_id, answer_id=kept.id)


def keeping() -> AbstractContextManager[None]:
    """What storage refuses, as the person who asks can use it."""
    deleted = "The document or the conversation was deleted while the question was answered."
    return storing((deleted, "Ask another document."))


def _pairs(messages: Sequence[Message]) -> Iterator[tuple[Message, Message]]:
    """Questions with their answers."""
    return zip(messages[::2], messages[1::2], strict=False)


def _turn(question: str, message: Message, citations: Sequence[Citation], titles: Mapping[str, str]) -> Turn:
    facts = dict(message.facts)
    trouble = {key: facts.pop(key) for key in ("message", "hint") if key in facts}
    return Turn(question, _restored(message, facts, citations, titles), message.state, **trouble)


def _restored(
    message: Message, facts: dict[str, Any], citations: Sequence[Citation], titles: Mapping[str, str]
) -> Answer:
    cited = []
    for each in citations:
        span = (each.span[0], each.span[1]) if each.span else None
        place = each.mark, each.page, each.label, each.quote, tuple(each.boxes), each.score, span
        cited.append(Cited(*place, each.document_id, titles.get(each.document_id, "")))
    unsupported = tuple((start, end) for start, end in facts.get("unsupported", ()))
    facts = {**facts, "sections": tuple(facts["sections"]), "unsupported": unsupported}
    return Answer(
        answer=message.content,
        found=bool(message.found),
        citations=tuple(cited),
        conversation_id=message.conversation_id,
        message_id=message.id,
        **facts,
    )
