"""What the store knows of conversations: their messages, branches and citations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import ColumnElement, String, cast, delete, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.errors import NotStored
from storage.models import Citation, Conversation, Document, Message, MessageState, Person, utc_now
from storage.sessions import Sessions, add, count_change, stored

OPEN: tuple[MessageState, ...] = ("waiting", "partial")
"""States of an answer that is still to come, or to be revised."""


class OpenAnswer(NamedTuple):
    """An answer that is not at its end, and the document that it is about."""

    document_id: str
    answer: Message
    again: bool
    """Whether its question was answered before."""
    beside: list[str]
    """The further documents that it is about."""


class Conversations(Sessions):
    """Verbs about conversations, messages and citations."""

    def start_conversation(
        self, document_id: str, title: str, conversation_id: str = "", beside: Sequence[str] = ()
    ) -> Conversation:
        """Its viewer's, with the given id, or one of its own. Without a title its first question is its title, and
        until then it is not listed. Raises NotStored where a document is gone, or the id is somebody else's.
        """
        with self._write(asking=True) as session:
            for each in (document_id, *beside):
                stored(session, Document, each)
            owner = self.viewer.id
            conversation = Conversation(document_id=document_id, title=title, owner=owner, beside=list(beside))
            conversation.id = conversation_id or conversation.id
            add(session, conversation)
            return conversation

    def copy_conversation(self, conversation_id: str, title: str, before: int = 0) -> Conversation:
        """Keep its active branch once more; of one with the answer `before` only what led to that one's question.

        Raises NotStored.
        """
        with self._write() as session:
            original = stored(session, Conversation, conversation_id)
            if original.is_deleted:
                raise NotStored(f"conversation {conversation_id} is deleted")
            of_original = select(Message).where(Message.conversation_id == conversation_id)
            by_id = {message.id: message for message in session.scalars(of_original)}
            copied = _branch(by_id)
            if before:
                answer = stored(session, Message, before)
                if answer not in copied:
                    raise NotStored(f"no answer {before} in conversation {conversation_id}")
                copied = copied[: copied.index(answer) - 1]
            copy = replace(original, id=uuid4().hex, title=title, copy_of=original.first, updated_at=utc_now())
            copy.created_at = copy.updated_at
            session.add(copy)
            session.flush()
            parent_id = None
            for each in copied:
                message = replace(each, conversation_id=copy.id, parent_id=parent_id)
                session.add(message)
                session.flush()
                of_message = session.scalars(select(Citation).where(Citation.message_id == each.id)).all()
                session.add_all(replace(citation, message_id=message.id) for citation in of_message)
                parent_id = message.id
            return copy

    def conversation(self, conversation_id: str) -> Conversation | None:
        """None where there is none, or none any longer."""
        with self._read() as session:
            found = session.get(Conversation, conversation_id)
            return None if found is None or found.is_deleted else found

    def conversations(self, document_id: str = "") -> list[Conversation]:
        """Its viewer's own, about a document or whatever, last used first."""
        found = select(Conversation).where(
            Conversation.owner == self.viewer.id, Conversation.title != "", ~Conversation.is_deleted
        )
        if document_id:
            found = found.where(or_(Conversation.document_id == document_id, about(document_id)))
        with self._read() as session:
            return list(session.scalars(found.order_by(Conversation.updated_at.desc(), Conversation.id)))

    def rename_conversation(self, conversation_id: str, title: str) -> None:
        """Call it so from now on. Raises NotStored."""
        with self._write() as session:
            stored(session, Conversation, conversation_id).title = title

    def hide_conversation(self, conversation_id: str) -> None:
        """Put it out of sight until it is brought back; what its owner hid before goes now."""
        with self._write() as session:
            if (found := session.get(Conversation, conversation_id)) is None:
                return
            hidden = Conversation.owner == found.owner, Conversation.is_deleted, Conversation.id != conversation_id
            gone = session.scalars(delete(Conversation).where(*hidden).returning(Conversation.id)).all()
            found.is_deleted = True
            if gone:
                # The keeper takes them out of the log, for which nobody need wait.
                count_change(session, "erased")

    def bring_back_conversation(self, conversation_id: str) -> bool:
        """Show a hidden conversation again; whether there was one."""
        with self._write() as session:
            found = session.get(Conversation, conversation_id)
            if found is None or found.owner != self.viewer.id:
                return False
            found.is_deleted = False
            return True

    def delete_hidden_conversations(self) -> None:
        """Forget what was put out of sight."""
        with self._write() as session:
            deleted = session.scalars(
                delete(Conversation).where(Conversation.is_deleted).returning(Conversation.id)
            ).all()
        if deleted:
            self._empty_log()

    def delete_conversation(self, conversation_id: str) -> None:
        """Forget the conversation with its messages."""
        with self._write() as session:
            session.execute(delete(Conversation).where(Conversation.id == conversation_id))
        self._empty_log()

    def conversations_of_viewer(self) -> list[str]:
        """Ids of its viewer's conversations."""
        with self._read() as session:
            return list(session.scalars(select(Conversation.id).where(Conversation.owner == self.viewer.id)))

    def delete_conversations_of_visitors(self) -> None:
        """Forget what visitors of an earlier run asked, and conversations that are hidden or without a question."""
        is_visitors = (Conversation.owner != "") & Conversation.owner.not_in(select(Person.id))
        no_longer = or_(is_visitors, Conversation.title == "", Conversation.is_deleted)
        with self._write() as session:
            of_visitors = delete(Conversation).where(no_longer).returning(Conversation.id)
            deleted = session.scalars(of_visitors).all()
        if deleted:
            self._empty_log()

    def messages(self, conversation_id: str) -> list[Message]:
        """The active branch from its root on: the newest message and what led to it."""
        return self.branch(conversation_id)

    def all_messages(self) -> list[tuple[Conversation, list[Message]]]:
        """Every conversation of its viewer's with its active branch, last used first."""
        seen = Conversation.owner == self.viewer.id, ~Conversation.is_deleted
        of_owner = select(Message).join(Conversation).where(*seen).order_by(Message.id)
        newest_first = select(Conversation).where(*seen)
        by_conversation: dict[str, dict[int, Message]] = {}
        with self._read() as session:
            for message in session.scalars(of_owner):
                by_conversation.setdefault(message.conversation_id, {})[message.id] = message
            conversations = session.scalars(newest_first.order_by(Conversation.updated_at.desc(), Conversation.id))
            return [(each, _branch(by_conversation.get(each.id, {}))) for each in conversations]

    def branch(self, conversation_id: str, last: int | None = None) -> list[Message]:
        """What led to a message of the conversation, and that message; the newest one if none is given."""
        of_conversation = (
            select(Message)
            .join(Conversation)
            .where(Message.conversation_id == conversation_id, ~Conversation.is_deleted)
            .order_by(Message.id)
        )
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
            conversation.title = conversation.title or question[:80]
            asked = Message(conversation_id=conversation_id, parent_id=parent_id, role="user", content=question)
            session.add(asked)
            session.flush()
            return asked, _add_answer(session, conversation, asked, answer, citations)

    def open_answers(self) -> list[OpenAnswer]:
        """Answers that are not at their end, oldest first."""
        before = aliased(Message)
        earlier = exists().where(before.parent_id == Message.parent_id, before.id < Message.id)
        of_all = select(Conversation.document_id, Message, earlier, Conversation.beside).join(
            Conversation, Conversation.id == Message.conversation_id
        )
        with self._read() as session:
            found = session.execute(
                of_all.where(Message.state.in_(OPEN), ~Conversation.is_deleted).order_by(Message.id)
            )
            return [OpenAnswer(*row) for row in found]

    def awaited_documents(self) -> list[str]:
        """Documents about which an answer is still to come, in the order in which they were asked."""
        waiting = select(Conversation.document_id).join(Message, Message.conversation_id == Conversation.id)
        asked = waiting.where(Message.state.in_(OPEN)).group_by(Conversation.document_id).order_by(func.min(Message.id))
        with self._read() as session:
            return list(session.scalars(asked))

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


def about(document_id: str) -> ColumnElement[bool]:
    """Whether a document is one of the further ones of a conversation."""
    return cast(Conversation.beside, String).contains(f'"{document_id}"', autoescape=True)


def _branch(by_id: Mapping[int, Message], last: int | None = None) -> list[Message]:
    """What led to a message of a conversation, by id, or to its newest one."""
    branch: list[Message] = []
    # A reply is newer than what it replies to, so the newest message ends a branch.
    message_id = max(by_id, default=None) if last is None else last
    while message_id is not None and message_id in by_id:
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
