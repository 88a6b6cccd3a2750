"""What the store knows of conversations: their messages, branches and citations."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.errors import NotStored
from storage.models import Citation, Conversation, Document, Message, utc_now
from storage.sessions import Sessions, stored


class Conversations(Sessions):
    """Verbs about conversations, messages and citations."""

    def start_conversation(self, document_id: str, title: str, conversation_id: str = "") -> Conversation:
        """Under an id of its own, unless one is given. Raises NotStored where the document is gone."""
        with self._write() as session:
            stored(session, Document, document_id)
            conversation = Conversation(document_id=document_id, title=title)
            conversation.id = conversation_id or conversation.id
            session.add(conversation)
            return conversation

    def conversation(self, conversation_id: str) -> Conversation | None:
        """None where there is none."""
        with self._read() as session:
            return session.get(Conversation, conversation_id)

    def conversations(self, document_id: str) -> list[Conversation]:
        """Last used first."""
        of_document = select(Conversation).where(Conversation.document_id == document_id)
        with self._read() as session:
            return list(session.scalars(of_document.order_by(Conversation.updated_at.desc(), Conversation.id)))

    def delete_conversation(self, conversation_id: str) -> None:
        """Forget the conversation with its messages."""
        with self._write() as session:
            session.execute(delete(Conversation).where(Conversation.id == conversation_id))
        self._empty_log()

    def messages(self, conversation_id: str) -> list[Message]:
        """The active branch from its root on: the newest message and what led to it."""
        of_conversation = select(Message).where(Message.conversation_id == conversation_id).order_by(Message.id)
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
