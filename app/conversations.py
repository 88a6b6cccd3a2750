"""Conversations: what was asked and answered about a document, kept and brought back as it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from app.errors import DiskFull, DocumentNotFound
from app.events import Answer, Cited, ConversationEntry, Turn
from app.prompts import Exchange
from storage import Citation, Message, MessageState, NotStored, StorageFull, Store


@dataclass(frozen=True)
class Asked:
    """A question where it stands: `messages` were said before it; `again` is its own message, if it is answered anew.

    With a `recipe` only the memory that is kept by it answers.
    """

    document_id: str
    question: str
    conversation_id: str = ""
    messages: Sequence[Message] = ()
    again: Message | None = None
    recipe: str = ""

    @property
    def exchanges(self) -> list[Exchange]:
        """What was asked and answered before, in order."""
        return [Exchange(q.content, a.content) for q, a in _pairs(self.messages)]


class Conversations:
    """Remembers the conversations about documents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def asked(self, document_id: str, question: str, conversation_id: str, recipe: str) -> Asked:
        """A question at the end of a conversation, or of none yet. Raises DocumentNotFound."""
        if not conversation_id:
            return Asked(document_id, question, recipe=recipe)
        conversation = self._store.conversation(conversation_id)
        if conversation is None or conversation.document_id != document_id:
            raise DocumentNotFound(
                "This document has no such conversation.", "It may have been deleted; start a new one."
            )
        return Asked(document_id, question, conversation_id, self._store.messages(conversation_id), recipe=recipe)

    def asked_again(self, conversation_id: str) -> Asked:
        """The last question of a conversation. Raises DocumentNotFound where there is none."""
        messages = self._store.messages(conversation_id)
        conversation = self._store.conversation(conversation_id)
        if conversation is None or len(messages) < 2:
            raise DocumentNotFound("There is no answer to write again.", "Ask a question first.")
        *before, asked, _ = messages
        return Asked(conversation.document_id, asked.content, conversation_id, before, asked)

    def entries(self, document_id: str) -> list[ConversationEntry]:
        """Conversations about a document, last used first."""
        found = self._store.conversations(document_id)
        return [ConversationEntry(each.id, each.title, each.updated_at) for each in found]

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it was."""
        messages = self._store.messages(conversation_id)
        cited = self._store.citations([message.id for message in messages])
        return [
            Turn(question.content, _restored(answer, cited[answer.id], conversation_id))
            for question, answer in _pairs(messages)
        ]

    def delete(self, conversation_id: str) -> None:
        """Forget a conversation."""
        self._store.delete_conversation(conversation_id)

    def keep(self, asked: Asked, answer: Answer) -> Answer:
        """Keep question, answer and citations in one transaction; the answer then knows where it is kept."""
        facts = asdict(answer)
        for key in ("answer", "found", "citations", "conversation_id", "message_id"):
            del facts[key]
        state: MessageState = "stopped" if answer.stopped else "done"
        message = Message(role="assistant", content=answer.answer, found=answer.found, facts=facts, state=state)
        rows = [Citation(**{**asdict(each), "boxes": list(each.boxes)}) for each in answer.citations]
        conversation_id = asked.conversation_id
        with keeping():
            if asked.again is not None:
                kept = self._store.replace_answer(asked.again.id, message, rows)
            else:
                start = self._store.start_conversation
                conversation_id = conversation_id or start(asked.document_id, asked.question[:80]).id
                parent = asked.messages[-1].id if asked.messages else None
                _, kept = self._store.add_exchange(conversation_id, asked.question, message, rows, parent)
        return Answer(**{**vars(answer), "conversation_id": conversation_id, "message_id": kept.id})


@contextmanager
def keeping() -> Iterator[None]:
    """What storage refuses, as the person who asks can use it."""
    try:
        yield
    except NotStored as error:
        raise DocumentNotFound(
            "The document or the conversation was deleted while the question was answered.", "Ask another document."
        ) from error
    except StorageFull as error:
        raise DiskFull(error.needed_bytes, error.free_bytes) from error


def _pairs(messages: Sequence[Message]) -> Iterator[tuple[Message, Message]]:
    """Questions with their answers."""
    return zip(messages[::2], messages[1::2], strict=False)


def _restored(message: Message, citations: Sequence[Citation], conversation_id: str) -> Answer:
    cited = tuple(
        Cited(each.mark, each.page, each.label, each.quote, tuple(each.boxes), each.score) for each in citations
    )
    facts = {**message.facts, "sections": tuple(message.facts["sections"])}
    return Answer(
        answer=message.content,
        found=bool(message.found),
        citations=cited,
        conversation_id=conversation_id,
        message_id=message.id,
        **facts,
    )
