"""What the store knows of conversations: their messages, branches and citations.

Each belongs to an owner: the home's user, who is "", or a visitor. Of another owner's there is nothing to be found.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.errors import NotStored
from storage.models import Citation, Conversation, Document, Message, utc_now
from storage.sessions import Sessions, stored


class Conversations(Sessions):
    """Verbs about conversations, messages and citations."""

    def start_conversation(self, document_id: str, title: str, owner: str = "") -> Conversation:
        """Raises NotStored where the document is gone."""
        with self._write() as session:
            stored(session, Document, document_id)
            conversation = Conversation(document_id=document_id, title=title, owner=owner)
            session.add(conversation)
            return conversation

    def conversation(self, conversation_id: str, owner: str = "") -> Conversation | None:
        """None where there is none."""
        its_own = select(Conversation).where(Conversation.id == conversation_id, Conversation.owner == owner)
        with self._read() as session:
            return session.scalars(its_own).one_or_none()

    def conversations(self, document_id: str, owner: str = "") -> list[Conversation]:
        """Last used first."""
        of_document = select(Conversation).where(Conversation.document_id == document_id, Conversation.owner == owner)
        with self._read() as session:
            return list(session.scalars(of_document.order_by(Conversation.updated_at.desc(), Conversation.id)))

    def delete_conversation(self, conversation_id: str, owner: str = "") -> None:
        """Forget the conversation with its messages."""
        with self._write() as session:
            session.execute(delete(Conversation).where(Conversation.id == conversation_id, Conversation.owner == owner))
        self._empty_log()

    def delete_conversations_of(self, owner: str = "") -> None:
        """Forget the conversations of a visitor, or of all visitors."""
        theirs = Conversation.owner == owner if owner else Conversation.owner != ""
        with self._write() as session:
            deleted = session.scalars(delete(Conversation).where(theirs).returning(Conversation.id)).all()
        if deleted:
            self._empty_log()

    def messages(self, conversation_id: str, owner: str = "") -> list[Message]:
        """The active branch from its root on: the newest message and what led to it."""
        of_conversation = (
            select(Message)
            .join(Conversation, Conversation.id == Message.conversation_id)
            .where(Conversation.id == conversation_id, Conversation.owner == owner)
            .order_by(Message.id)
        )
        with self._read() as session:
            by_id = {message.id: message for message in session.scalars(of_conversation)}
        branch: list[Message] = []
        # A reply is newer than what it replies to, so the newest message ends a branch.
        message_id = max(by_id, default=None)
        while message_id is not None:
            branch.append(by_id[message_id])
            message_id = by_id[message_id].parent_id
        return branch[::-1]

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

    def replace_answer(self, question_message_id: int, answer: Message, citations: Sequence[Citation]) -> Message:
        """Keep a further answer to a question; it becomes the active one. Raises NotStored."""
        with self._write() as session:
            asked = stored(session, Message, question_message_id)
            conversation = stored(session, Conversation, asked.conversation_id)
            return _add_answer(session, conversation, asked, answer, citations)


def _add_answer(
    session: Session, conversation: Conversation, asked: Message, answer: Message, citations: Sequence[Citation]
) -> Message:
    answered = replace(answer, conversation_id=conversation.id, parent_id=asked.id)
    session.add(answered)
    session.flush()
    session.add_all(replace(citation, message_id=answered.id) for citation in citations)
    conversation.updated_at = utc_now()
    return answered
