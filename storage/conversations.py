"""What the store knows of conversations: their messages, branches and citations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session, aliased

from storage.errors import NotStored
from storage.models import Citation, Conversation, Document, Message, MessageState, utc_now
from storage.sessions import Sessions, stored

OPEN: tuple[MessageState, ...] = ("waiting", "partial")
"""States of an answer that is still to come, or to be revised."""


class OpenAnswer(NamedTuple):
    """An answer that is not at its end, and the document that it is about."""

    document_id: str
    answer: Message
    again: bool
    """Whether its question was answered before."""


class Conversations(Sessions):
    """Verbs about conversations, messages and citations."""

    def start_conversation(
        self, document_id: str, title: str, conversation_id: str = "", owner: str = ""
    ) -> Conversation:
        """With the given id, or one of its own. Raises NotStored where the document is gone."""
        with self._write() as session:
            stored(session, Document, document_id)
            conversation = Conversation(document_id=document_id, title=title, owner=owner)
            conversation.id = conversation_id or conversation.id
            session.add(conversation)
            return conversation

    def conversation(self, conversation_id: str) -> Conversation | None:
        """None where there is none."""
        with self._read() as session:
            return session.get(Conversation, conversation_id)

    def conversations(self, document_id: str, owner: str = "") -> list[Conversation]:
        """Of the home's user or of a visitor, last used first."""
        of_document = select(Conversation).where(Conversation.document_id == document_id, Conversation.owner == owner)
        with self._read() as session:
            return list(session.scalars(of_document.order_by(Conversation.updated_at.desc(), Conversation.id)))

    def delete_conversation(self, conversation_id: str) -> None:
        """Forget the conversation with its messages."""
        with self._write() as session:
            session.execute(delete(Conversation).where(Conversation.id == conversation_id))
        self._empty_log()

    def conversations_of(self, owner: str) -> list[str]:
        """Ids of a visitor's conversations."""
        with self._read() as session:
            return list(session.scalars(select(Conversation.id).where(Conversation.owner == owner)))

    def delete_conversations_of_visitors(self) -> None:
        """Forget what visitors of an earlier run asked."""
        with self._write() as session:
            of_visitors = delete(Conversation).where(Conversation.owner != "").returning(Conversation.id)
            deleted = session.scalars(of_visitors).all()
        if deleted:
            self._empty_log()

    def messages(self, conversation_id: str) -> list[Message]:
        """The active branch from its root on: the newest message and what led to it."""
        return self.branch(conversation_id)

    def all_messages(self, owner: str = "") -> list[tuple[Conversation, list[Message]]]:
        """Every conversation of the home's user or of a visitor with its active branch, last used first."""
        of_owner = select(Message).join(Conversation).where(Conversation.owner == owner).order_by(Message.id)
        newest_first = select(Conversation).where(Conversation.owner == owner)
        by_conversation: dict[str, dict[int, Message]] = {}
        with self._read() as session:
            for message in session.scalars(of_owner):
                by_conversation.setdefault(message.conversation_id, {})[message.id] = message
            conversations = session.scalars(newest_first.order_by(Conversation.updated_at.desc(), Conversation.id))
            return [(each, _branch(by_conversation.get(each.id, {}))) for each in conversations]

    def branch(self, conversation_id: str, last: int | None = None) -> list[Message]:
        """What led to a message of the conversation, and that message; the newest one if none is given."""
        of_conversation = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.id)
        with self._read() as session:
            by_id = {message.id: message for message in session.scalars(of_conversation)}
        return _branch(by_id, last)

    def citations(self, message_ids: Sequence[int]) -> dict[int, list[Citation]]:
        """Of each message in the order of their marks; a message without citations has an empty list."""
        cited: dict[int, list[Citation]] = {message_id: [] for message_id in message_ids}
        of_messages = select(Citation).where(Citation.message_id.in_(cited)).order_by(Citation.mark, Citation.id)
        with self._read() as session:
            for citation in session.scalars(of_messages):
                cited[citation.message_id].append(citation)
        return cited

    def add_exchange(
        self,
        conversation_id: str,
        question: str,
        answer: Message,
        citations: Sequence[Citation],
        parent_id: int | None = None,
    ) -> tuple[Message, Message]:
        """Keep a question after `parent_id` (None: at the root) with its answer. Raises NotStored."""
        with self._write() as session:
            conversation = stored(session, Conversation, conversation_id)
            if parent_id is not None:
                parent = stored(session, Message, parent_id)
                if parent.conversation_id != conversation_id:
                    raise NotStored(f"no message {parent_id} in conversation {conversation_id}")
            asked = Message(conversation_id=conversation_id, parent_id=parent_id, role="user", content=question)
            session.add(asked)
            session.flush()
            return asked, _add_answer(session, conversation, asked, answer, citations)

    def open_answers(self) -> list[OpenAnswer]:
        """Answers that are not at their end, oldest first."""
        before = aliased(Message)
        earlier = exists().where(before.parent_id == Message.parent_id, before.id < Message.id)
        of_all = select(Conversation.document_id, Message, earlier).join(
            Conversation, Conversation.id == Message.conversation_id
        )
        with self._read() as session:
            found = session.execute(of_all.where(Message.state.in_(OPEN)).order_by(Message.id))
            return [OpenAnswer(*row) for row in found]

    def is_awaited(self, document_id: str) -> bool:
        """Whether an answer about the document is still to come."""
        waiting = select(Message.id).join(Conversation, Conversation.id == Message.conversation_id)
        of_document = waiting.where(Conversation.document_id == document_id, Message.state.in_(OPEN))
        with self._read() as session:
            return session.scalar(of_document.limit(1)) is not None

    def settle_answer(self, message_id: int, answer: Message, citations: Sequence[Citation]) -> bool:
        """Take an open answer to a further state; False where it is at its end already, which stands.

        Raises NotStored where it is gone.
        """
        with self._write() as session:
            kept = stored(session, Message, message_id)
            if kept.state not in OPEN:
                return False
            kept.content, kept.found, kept.facts, kept.state = answer.content, answer.found, answer.facts, answer.state
            session.execute(delete(Citation).where(Citation.message_id == message_id))
            session.add_all(replace(citation, message_id=message_id) for citation in citations)
            stored(session, Conversation, kept.conversation_id).updated_at = utc_now()
            return True

    def withdraw_answer(self, message_id: int) -> bool:
        """Forget an open answer that nothing follows, so that the one before it counts again; whether it is gone."""
        follows = select(Message.id).where(Message.parent_id == message_id)
        with self._write() as session:
            kept = session.get(Message, message_id)
            if kept is None or kept.state not in OPEN or session.scalar(follows.limit(1)) is not None:
                return kept is None
            session.execute(delete(Message).where(Message.id == message_id))
            return True

    def replace_answer(self, question_message_id: int, answer: Message, citations: Sequence[Citation]) -> Message:
        """Keep a further answer to a question; it becomes the active one. Raises NotStored."""
        with self._write() as session:
            asked = stored(session, Message, question_message_id)
            conversation = stored(session, Conversation, asked.conversation_id)
            return _add_answer(session, conversation, asked, answer, citations)


def _branch(by_id: Mapping[int, Message], last: int | None = None) -> list[Message]:
    """What led to a message of a conversation, by id, or to its newest one."""
    branch: list[Message] = []
    # A reply is newer than what it replies to, so the newest message ends a branch.
    message_id = max(by_id, default=None) if last is None else last
    while message_id in by_id:
        branch.append(by_id[message_id])
        message_id = by_id[message_id].parent_id
    return branch[::-1]


def _add_answer(
    session: Session, conversation: Conversation, asked: Message, answer: Message, citations: Sequence[Citation]
) -> Message:
    answered = replace(answer, conversation_id=conversation.id, parent_id=asked.id)
    session.add(answered)
    session.flush()
    session.add_all(replace(citation, message_id=answered.id) for citation in citations)
    conversation.updated_at = utc_now()
    return answered
