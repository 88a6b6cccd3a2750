"""Questions: from what a person asks to an answer with its evidence, out of memory."""

import threading
from collections.abc import Iterator
from contextlib import closing, suppress

from app.conversations import Asked, Conversations
from app.errors import AppError
from app.events import AskEvent, ConversationEntry, Turn
from app.model_handle import ModelHandle
from app.retrieval import Retriever
from app.section_answer import SectionAnswer
from storage import Store


class Questions:
    """Answers questions about documents that were read, and remembers the conversations."""

    def __init__(self, store: Store, model: ModelHandle, max_answer_tokens: int) -> None:
        self._store = store
        self._model = model
        self._max_answer_tokens = max_answer_tokens
        self._conversations = Conversations(store)
        self._retriever = Retriever(store)

    def ask(
        self,
        document_id: str,
        question: str,
        conversation_id: str = "",
        stop: threading.Event | None = None,
        recipe: str = "",
    ) -> Iterator[AskEvent]:
        """Evidence once, pieces of text, then the Answer, which is remembered; also when `stop` is set.

        With a `recipe` only the memory that is kept by it answers.

        Raises QuestionRejected, DocumentNotFound or NotRead before the first event.
        """
        asked = self._conversations.asked(document_id, question.strip(), conversation_id, recipe)
        yield from self._answer(asked, stop or threading.Event())

    def regenerate(self, conversation_id: str, stop: threading.Event | None = None) -> Iterator[AskEvent]:
        """Answer the last question of a conversation once more, with another choice of words."""
        yield from self._answer(self._conversations.asked_again(conversation_id), stop or threading.Event())

    def conversations(self, document_id: str) -> list[ConversationEntry]:
        """Conversations about a document, last used first."""
        return self._conversations.entries(document_id)

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it was."""
        return self._conversations.turns(conversation_id)

    def delete(self, conversation_id: str) -> None:
        """Forget a conversation."""
        self._conversations.delete(conversation_id)

    def _answer(self, asked: Asked, stop: threading.Event) -> Iterator[AskEvent]:
        engine = self._model.wait()
        found = SectionAnswer(self._store, engine, self._retriever, asked, self._max_answer_tokens)
        with closing(found.events(stop)) as events:
            try:
                yield from events
            except GeneratorExit:
                # Whoever listened has gone; what was said so far is kept, unless there is no place for it any longer.
                with suppress(AppError):
                    self._conversations.keep(asked, found.answer(stopped=True))
                raise
        yield self._conversations.keep(asked, found.answer(stop.is_set()))
