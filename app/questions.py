"""Questions: from what a person asks to an answer with its evidence, out of memory."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from copy import copy
from dataclasses import replace
from typing import Literal

from app.answer_span import asks_for_name
from app.conversations import Asked, Conversations
from app.document_answer import DocumentAnswer
from app.durations import Durations
from app.errors import AppError
from app.events import AskEvent, ConversationEntry, Turn
from app.follow_up import complete
from app.meaning import Meaning
from app.model_handle import ModelHandle
from app.question_kind import Asking, kind_of
from app.retrieval import Retriever
from app.routing import Route
from app.section_answer import SectionAnswer
from app.settings import Settings
from app.several_answer import SeveralAnswer
from app.whole_answer import WholeAnswer
from storage import Store

_LONGEST = 500
"""Characters of a question that may be a fragment, or about the document: longer ones are whole."""


class Questions:
    """Answers questions about documents that were read, and remembers the conversations."""

    def __init__(
        self,
        store: Store,
        model: ModelHandle,
        conversations: Conversations,
        settings: Settings,
        meaning: Meaning | None = None,
    ) -> None:
        self._store = store
        self._model = model
        self._settings = settings
        self._conversations = conversations
        self._retriever = Retriever(store, meaning)
        self.first_words = Durations()

    def seen_by(self, store: Store) -> "Questions":
        """The conversations of the viewer of that store."""
        seen = copy(self)
        seen._conversations = Conversations(store)
        return seen

    def ask(
        self,
        document_id: str,
        question: str,
        conversation_id: str = "",
        stop: threading.Event | None = None,
        recipe: str = "",
        beside: Sequence[str] = (),
    ) -> Iterator[AskEvent]:
        """Evidence once, pieces of text, then the Answer, which is remembered; also when `stop` is set.

        With a `recipe` only the memory that is kept by it answers. Further documents are asked `beside` the first.

        Raises QuestionRejected, DocumentNotFound or NotRead before the first event.
        """
        asked = self._conversations.asked(document_id, question.strip(), conversation_id, recipe, beside)
        yield from self.answer(asked, stop or threading.Event())

    def regenerate(self, conversation_id: str) -> Iterator[AskEvent]:
        """Answer the last question of a conversation once more, with another choice of words."""
        yield from self.answer(self._conversations.asked_again(conversation_id), threading.Event())

    def route(self, document_id: str, question: str) -> Route:
        """Where a question goes, and which passages seem to answer it before the model has looked."""
        return Route(question, document_id, self._store, self._retriever.meaning)

    def conversations(self, document_id: str = "") -> list[ConversationEntry]:
        """As `Conversations.entries`."""
        return self._conversations.entries(document_id)

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it was."""
        return self._conversations.turns(conversation_id)

    def delete(self, conversation_id: str) -> None:
        """Forget a conversation."""
        self._conversations.delete(conversation_id)

    def answer(self, asked: Asked, stop: threading.Event) -> Generator[AskEvent]:
        """Answer a question, as `ask` does; one that is stored already stays open where nobody listens any longer."""
        engine = self._model.peek()
        with engine.loaded.idle.question() if engine else nullcontext():
            yield from self._answer(asked, stop)

    def needs(self, asked: Asked) -> Literal["pages", "model", "reading"]:
        """What must be there to answer a question: its document's pages, the model too, or what that has read."""
        kind = self._asking(asked).kind
        if kind == "inside":
            return "reading"
        return "model" if kind in ("whole", "page") else "pages"

    def _answer(self, asked: Asked, stop: threading.Event) -> Iterator[AskEvent]:
        found = self.begin(asked)
        with closing(found.events(stop)) as events:
            try:
                yield from events
            except GeneratorExit:
                # Whoever listened has gone; what was said so far is kept, unless there is no place for it any longer.
                if not asked.answer_id:
                    with suppress(AppError):
                        self._conversations.keep(asked, found.answer(stopped=True))
                raise
        answer = found.answer(stop.is_set())
        self.first_words.note(answer.first_token_seconds)
        yield self._conversations.keep(asked, answer)

    def begin(self, asked: Asked) -> SectionAnswer | WholeAnswer | DocumentAnswer | SeveralAnswer:
        """What answers a question of its kind; nothing of it is remembered yet."""
        asking = self._asking(asked)
        if asking.kind in ("whole", "page"):
            return WholeAnswer(self._store, self._model, asked, asking, self._settings.max_answer_tokens)
        if asking.kind != "inside":
            return DocumentAnswer(self._store, asked, asking)
        if len(asked.question) <= _LONGEST:
            whole = complete(asked.question, asked.earlier, self._told(asked))
            asked = replace(asked, understood=whole if whole != asked.question else "")
        if asked.beside:
            return SeveralAnswer(self._store, self._model.wait(), self._retriever, asked, self._settings)
        return SectionAnswer(self._store, self._model.wait(), self._retriever, asked, self._settings)

    def _told(self, asked: Asked) -> str:
        """The name that answered the question before, if that asked for one."""
        question, answer = asked.messages[-2:] or (None, None)
        if not (question and answer and answer.found):
            return ""
        cited = self._store.citations([answer.id])[answer.id]
        if not cited or not cited[0].span or not asks_for_name(answer.facts.get("understood") or question.content):
            return ""
        return cited[0].quote[slice(*cited[0].span)]

    def _asking(self, asked: Asked) -> Asking:
        if len(asked.question) > _LONGEST or asked.beside:
            return Asking("inside")
        return kind_of(asked.question, lambda: self._names(asked.document_id), bool(asked.earlier))

    def _names(self, document_id: str) -> str:
        """Words that stand for a document: those of its title and its file."""
        document = self._store.document(document_id)
        return f"{document.title} {document.file_name}" if document else ""
