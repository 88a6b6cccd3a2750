"""The chat: every question is stored before it is shown, and goes from state to state until its answer is at its end.

A question may be asked at any moment. While its document is read it waits with the passages that hold its words; it is
answered once the pages with the best of them are read, and once more when all are. Nothing of that depends on a page
that is open, and what is open when the app ends goes on at the next start.
"""

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass, field, replace

from app.conversations import Asked, Conversations
from app.errors import AppError, Busy, DocumentNotFound, NotRead, QuestionRejected
from app.events import AskEvent, Cited, Evidence, TextDelta, Turn, Working
from app.hits import hits
from app.model_handle import ModelHandle
from app.pod_engine import PodEngine
from app.questions import Questions
from app.refusals import report
from app.routing import index
from app.several_answer import read_of
from app.streaming import without_echo
from app.warming import Warming
from storage import Document, HomeBusy, MessageState, StorageAway, Store

log = logging.getLogger(__name__)

_ANSWERS_AT_ONCE = 8
_LOOK_SECONDS = 0.3
"""How often a question that waits is looked at."""
_SEARCH_SECONDS = 5.0
"""How long the first passages with a question's words are followed; later ones are seen at the next look."""
_AGAIN_SECONDS = 3.0
"""How long a question waits where its pages turned out not to be there, or another page is at work on it."""


@dataclass
class _Running:
    """An answer on its way, as far as it was said."""

    asked: Asked
    stop: threading.Event = field(default_factory=threading.Event)
    evidence: Evidence | None = None
    words: str = ""
    doing: str = ""


class _Changes(threading.Condition):
    """Counts what changed in any conversation."""

    version = 0
    closed = False


class Chat:
    """Asks, answers in the background, and shows each conversation as it stands. Several threads may use it."""

    def __init__(self, store: Store, model: ModelHandle, conversations: Conversations, questions: Questions) -> None:
        self._store = store
        self._model = model
        self._conversations = conversations
        self._questions = questions
        self._changed = _Changes()
        self._running: dict[int, _Running] = {}
        self._not_before: dict[int, float] = {}
        self._hits: dict[int, tuple[bool, tuple[Cited, ...]]] = {}
        """Of waiting questions: the passages with their words, and whether all pages are searched."""
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._take_up = self._begin
        self._warming = Warming(store, model)
        self._pool = ThreadPoolExecutor(_ANSWERS_AT_ONCE, "answers")
        self._thread = threading.Thread(target=self._watch, name="chat", daemon=True)

    def seen_by(self, store: Store) -> "Chat":
        """The conversations of the viewer of that store, answered as all are."""
        seen = copy(self)
        seen._store, seen._conversations = store, Conversations(store)
        return seen

    def start(self) -> None:
        """Answer what is asked, and what an earlier run left open, in the background."""
        self._thread.start()
        self._warming.start()

    def close(self) -> None:
        """End after the token or chunk at hand; what is open stays open for the next start."""
        self._changed.closed = True
        self._wake.set()
        self._note_change()
        if self._thread.is_alive():
            self._thread.join()
            try:
                self._store.delete_hidden_conversations()
            except StorageAway as error:
                log.warning("hidden conversations go later: %s", error)
        self._pool.shutdown()
        self._warming.close()

    @property
    def num_running(self) -> int:
        """How many questions are being answered."""
        return len(self._running)

    def expect(self, document_id: str) -> None:
        """Get ready for questions about a document, which was opened just now."""
        self._warming.expect(document_id)

    def open(self, documents: Sequence[str]) -> str:
        """A conversation about several documents, to be asked in; its id. Raises DocumentNotFound."""
        return self._conversations.open(documents)

    def documents(self, conversation_id: str) -> tuple[str, ...]:
        """The documents that a conversation is about; none before its first question, where it is about one."""
        return self._conversations.documents(conversation_id)

    def title(self, conversation_id: str) -> str:
        """What a conversation is called."""
        conversation = self._store.conversation(conversation_id)
        return conversation.title if conversation else ""

    def copy(self, conversation_id: str, question: str = "", before: int = 0) -> str:
        """As `Conversations.copy`."""
        return self._conversations.copy(conversation_id, question, before)

    def ask(self, document_id: str, conversation_id: str, question: str, instead_of: int = 0) -> str:
        """Store a question at the end of a conversation, which begins with it if there is none of this id; "" is a new
        one. Asked `instead_of` the question of an answer, it is in a copy of what stands before that.

        Returns the conversation's id. Raises QuestionRejected and DocumentNotFound.
        """
        question = question.strip()
        if not question:
            raise QuestionRejected("The question is empty.", "Type what you want to know.")
        with self._looking:
            conversation = self._store.conversation(conversation_id) if conversation_id else None
            mine = document_id, self._store.viewer.id
            if conversation is not None and (conversation.document_id, conversation.owner) != mine:
                raise DocumentNotFound("This document has no such conversation.", "Start a new one.")
            if instead_of:
                conversation_id = self._conversations.copy(conversation_id, question, instead_of)
            messages = self._store.messages(conversation_id) if conversation else []
            beside = tuple(conversation.beside) if conversation else ()
            asked = Asked(document_id, question, conversation_id, messages, beside=beside)
            # What is asked of the document itself, or of a page, is not looked for by its words.
            by_words = not beside and self._questions.needs(asked) == "reading"
            found = hits(question, document_id, self._store) if by_words else ()
            asked = self._conversations.begin(asked, found)
        self._take_up()
        return asked.conversation_id

    def again(self, conversation_id: str) -> None:
        """Answer the last question of a conversation once more, in other words. Raises Busy while one is open."""
        with self._looking:
            if any(turn.is_open for turn in self.turns(conversation_id)):
                raise Busy("An answer of this conversation is still to come.", "Wait for it, or stop it first.")
            self._conversations.begin(self._conversations.asked_again(conversation_id))
        self._take_up()

    def stop(self, conversation_id: str) -> None:
        """End what is open in a conversation, at once and for good; what was said stays."""
        for asked, _ in self._conversations.open_ones():
            if asked.conversation_id == conversation_id:
                self._end(asked)

    def delete(self, conversation_id: str) -> None:
        """Put a conversation out of sight and end its answers; it is forgotten with the next one, or at the end."""
        self._store.hide_conversation(conversation_id)
        self._end_answers(conversation_id)

    def bring_back(self, conversation_id: str) -> None:
        """Take back that a conversation was deleted. Raises DocumentNotFound."""
        if not self._store.bring_back_conversation(conversation_id):
            raise DocumentNotFound("This conversation is gone for good.", "Start a new one.")
        self._take_up()

    def rename(self, conversation_id: str, title: str) -> None:
        """Call a conversation so from now on. Raises BadName and DocumentNotFound."""
        self._conversations.rename(conversation_id, title)

    def _end_answers(self, conversation_id: str) -> None:
        with self._changed:
            ended = [key for key, each in self._running.items() if each.asked.conversation_id == conversation_id]
            for key in ended:
                self._running.pop(key).stop.set()
        self._note_change()

    def forget(self) -> None:
        """Forget all conversations of its viewer, and end their answers."""
        for conversation_id in self._store.conversations_of_viewer():
            self._conversations.delete(conversation_id)
            self._end_answers(conversation_id)

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it stands at this moment."""
        with self._changed:
            running = dict(self._running)
        turns = self._conversations.turns(conversation_id)
        return [_as_it_runs(turn, running.get(turn.answer.message_id)) for turn in turns]

    def follow(self, conversation_id: str) -> Iterator[Turn]:
        """The last turn of a conversation whenever it changed, while its words are searched or an answer is given."""
        seen, searching_ends = -1, time.monotonic() + _SEARCH_SECONDS
        while True:
            with self._changed:
                if seen == self._changed.version:
                    self._changed.wait(_LOOK_SECONDS)
                seen = self._changed.version
                runs = any(each.asked.conversation_id == conversation_id for each in self._running.values())
            turns = self.turns(conversation_id)
            runs = runs or (bool(turns) and self._is_searched_for(turns[-1]) and time.monotonic() < searching_ends)
            if self._changed.closed or not turns or not runs:
                return
            yield turns[-1]

    def _is_searched_for(self, turn: Turn) -> bool:
        """Whether a question waits and not all pages have been searched for its words."""
        searched, _ = self._hits.get(turn.answer.message_id, (False, ()))
        return turn.state == "waiting" and not searched

    def _begin(self) -> None:
        """Answer what was just asked, at once where that is possible."""
        self.look()
        self._wake.set()

    def _watch(self) -> None:
        while not self._changed.closed:
            try:
                some_open = self.look()
            except Exception:
                # The rim of the background: whatever goes wrong with one question, others are answered.
                log.exception("looking after open questions failed")
                some_open = True
            self._wake.wait(_LOOK_SECONDS if some_open else None)
            self._wake.clear()

    def look(self) -> bool:
        """Begin what can be answered by now; whether there is anything open. The background does so again and again."""
        with self._looking:
            with self._changed:
                # Before their states are read: one that ends meanwhile has another state by then.
                running = set(self._running)
            open_ones = self._conversations.open_ones()
            for asked, state in open_ones:
                if asked.answer_id not in running and not self._changed.closed:
                    with suppress(DocumentNotFound):  # deleted meanwhile
                        self._advance(asked, state)
        return bool(open_ones)

    def _advance(self, asked: Asked, state: MessageState) -> None:
        document = self._store.document(asked.document_id)
        if document is None:
            return
        if document.state == "rejected" and document.error and not asked.beside:
            self._conversations.fail(asked, NotRead(**document.error))
            self._note_change()
            return
        needs = self._questions.needs(asked)
        found = self._search(asked, state, document) if needs == "reading" and not asked.beside else ()
        if needs != "pages" and not self._model.settled(0.0):
            return
        try:
            engine = None if needs == "pages" else self._model.wait()
        except AppError as error:
            self._conversations.fail(asked, error)
            self._note_change()
            return
        known = bool(asked.beside) or document.state == "parsed"
        if known and self._may_begin(asked) and self._is_read(engine, asked, state, found, needs):
            checks = document.num_pages if state == "partial" else 0
            running = _Running(replace(asked, checks=checks))
            with self._changed:
                self._running[asked.answer_id] = running
            self._note_change()
            self._pool.submit(self._answer, running)

    def _search(self, asked: Asked, state: MessageState, document: Document) -> tuple[Cited, ...]:
        """The passages with a waiting question's words, which are more and more while pages are parsed."""
        parsed, known = self._hits.get(asked.answer_id, (False, ()))
        if state != "waiting" or parsed:
            return known
        found = hits(asked.question, asked.document_id, self._store)
        self._hits[asked.answer_id] = document.state == "parsed", found
        if found != known:
            self._conversations.begin(asked, found)
            self._note_change()
        return found

    def _is_read(
        self, engine: PodEngine | None, asked: Asked, state: MessageState, found: tuple[Cited, ...], needs: str
    ) -> bool:
        """Whether enough is read: all of it, or for a question that waits the page that holds the most of its words."""
        if engine is None or (needs == "model" and state == "waiting"):
            return True
        if asked.beside:
            return bool(read_of(engine, asked))
        reading = engine.presets.serving(asked.document_id)
        sections = self._store.read_so_far(reading.id) if reading else []
        if not sections:
            return False
        if all(each.tokens_read == each.num_tokens for each in sections):
            return True
        if state != "waiting":
            return False
        if found:
            return any(each.first_page <= found[0].page <= each.last_page_read for each in sections)
        return any(each.tokens_read == each.num_tokens for each in sections)

    def _may_begin(self, asked: Asked) -> bool:
        """Whether it was not tried in vain just now, and no other answer of its conversation is on its way."""
        with self._changed:
            busy = any(each.asked.conversation_id == asked.conversation_id for each in self._running.values())
        return not busy and self._not_before.get(asked.answer_id, 0.0) <= time.monotonic()

    def _answer(self, running: _Running) -> None:
        asked = running.asked
        try:
            # Another page of the same library looks after open questions too.
            with self._store.lock(f"answer-{asked.answer_id}"), closing(self._answering(running)) as events:
                for event in events:
                    if self._changed.closed:
                        return
                    self._note(running, event)
        except (NotRead, HomeBusy):
            self._not_before[asked.answer_id] = time.monotonic() + _AGAIN_SECONDS
        except DocumentNotFound as gone:
            log.info("a question ended, because what it was about is gone: %s", gone)
        except Exception as error:
            self._fail(asked, report(error))
        finally:
            with self._changed:
                if self._running.get(asked.answer_id) is running:
                    del self._running[asked.answer_id]
            self._note_change()
            self._wake.set()
        # For further questions; what is warm is what was asked, and nothing takes its place.
        index(asked.document_id, self._store)

    def _answering(self, running: _Running) -> Generator[AskEvent]:
        if any(each.answer_id == running.asked.answer_id for each, _ in self._conversations.open_ones()):
            yield from self._questions.answer(running.asked, running.stop)

    def _note(self, running: _Running, event: AskEvent) -> None:
        match event:
            case Evidence():
                running.evidence = event
            case TextDelta():
                running.words += event.text
            case Working():
                running.doing = f"{event.doing}: {event.done} of {event.total}" if event.total else event.doing
            case _:
                return
        self._note_change()

    def _fail(self, asked: Asked, error: AppError) -> None:
        with suppress(DocumentNotFound):
            self._conversations.fail(asked, error)

    def _end(self, asked: Asked) -> None:
        with self._changed:
            running = self._running.pop(asked.answer_id, None)
        turns = {turn.answer.message_id: turn for turn in self._conversations.turns(asked.conversation_id)}
        turn = turns.get(asked.answer_id)
        if turn is not None:
            with suppress(DocumentNotFound):
                self._conversations.stop(asked, _as_it_runs(turn, running).answer)
        if running is not None:
            running.stop.set()
        self._note_change()

    def _note_change(self) -> None:
        with self._changed:
            self._changed.version += 1
            self._changed.notify_all()


def _as_it_runs(turn: Turn, running: _Running | None) -> Turn:
    """A stored turn with what was said of its answer since; one that is revised stays until the other is whole."""
    if running is None or not turn.is_open:
        return turn
    if running.asked.checks:
        return replace(turn, state="checking")
    if running.evidence is None:
        return replace(turn, state="looking", doing=running.doing)
    evidence = running.evidence
    said = replace(
        turn.answer,
        answer=without_echo(running.words),
        found=evidence.found or evidence.answering,
        citations=evidence.citations,
        coverage=evidence.coverage,
        understood=evidence.understood,
    )
    return replace(turn, state="answering", answer=said, evidence=evidence)
