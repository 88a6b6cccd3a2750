"""Questions: from what a person asks to an answer with its evidence, out of memory."""

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict

from app.citations import best_passages, cite, with_support
from app.errors import AppError, DiskFull, DocumentNotFound, NotRead, QuestionRejected
from app.events import Answer, AskEvent, Cited, ConversationEntry, Evidence, TextDelta, Turn
from app.evidence import PassageIndex, Ranked, index, rank
from app.model_handle import ModelHandle
from app.pod_engine import PodEngine
from app.prompts import Exchange
from app.reader_model import Loaded
from app.recall import Recalled, Recaller
from app.routing import Route, route
from app.sections import SectionText
from app.streaming import stream, without_echo
from engine.core.sampling import SamplingParams
from engine.core.weak_cache import WeakCache
from engine.evidence.calibration import passage
from engine.kvcache.quantized import AnyPod
from engine.runtime.generate import Question
from storage import Citation, Message, MessageState, NotStored, Page, Reading, StorageFull, Store

log = logging.getLogger(__name__)

NOT_FOUND = "Not found in the document."


class Questions:
    """Answers questions about documents that were read, and remembers the conversations."""

    def __init__(self, store: Store, model: ModelHandle, max_answer_tokens: int) -> None:
        self._store = store
        self._model = model
        self._max_answer_tokens = max_answer_tokens
        self._indexes: WeakCache[SectionText, list[PassageIndex]] = WeakCache(lambda _: [])

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
        conversation = self._store.conversation(conversation_id) if conversation_id else None
        if conversation_id and (conversation is None or conversation.document_id != document_id):
            raise DocumentNotFound(
                "This document has no such conversation.", "It may have been deleted; start a new one."
            )
        messages = self._messages(conversation_id)
        stop = stop or threading.Event()
        yield from self._ask(document_id, question.strip(), messages, conversation_id, None, stop, recipe)

    def regenerate(self, conversation_id: str, stop: threading.Event | None = None) -> Iterator[AskEvent]:
        """Answer the last question of a conversation once more, with another choice of words."""
        messages = self._messages(conversation_id)
        conversation = self._store.conversation(conversation_id)
        if conversation is None or len(messages) < 2:
            raise DocumentNotFound("There is no answer to write again.", "Ask a question first.")
        asked = messages[-2]
        yield from self._ask(
            conversation.document_id, asked.content, messages[:-2], conversation_id, asked, stop or threading.Event()
        )

    def conversations(self, document_id: str) -> list[ConversationEntry]:
        """Conversations about a document, last used first."""
        found = self._store.conversations(document_id)
        return [ConversationEntry(each.id, each.title, each.updated_at) for each in found]

    def turns(self, conversation_id: str) -> list[Turn]:
        """A conversation as it was."""
        messages = self._messages(conversation_id)
        cited = self._store.citations([message.id for message in messages])
        return [
            Turn(question.content, _restored(answer, cited[answer.id], conversation_id))
            for question, answer in zip(messages[::2], messages[1::2], strict=False)
        ]

    def delete(self, conversation_id: str) -> None:
        """Forget a conversation."""
        self._store.delete_conversation(conversation_id)

    def _ask(
        self,
        document_id: str,
        question: str,
        messages: Sequence[Message],
        conversation_id: str,
        again: Message | None,
        stop: threading.Event,
        recipe: str = "",
    ) -> Iterator[AskEvent]:
        engine = self._model.wait()
        loaded = engine.loaded
        start = time.perf_counter()
        exchanges = [Exchange(q.content, a.content) for q, a in zip(messages[::2], messages[1::2], strict=False)]
        chosen = route(question, [each.question for each in exchanges], document_id, self._store)
        ids = self._ids(loaded, question, exchanges[-1:] if chosen.depends else [])
        recalled, reading = self._recall(engine, document_id, chosen, recipe)
        coverage = engine.recaller.coverage(reading)
        indexes, pages = self._indexed(document_id, recalled), _Pages(self._store, document_id)
        pods, variation = [each.pod for each in recalled], _variation(again, len(messages))
        # Where the answer is from the same pods, it goes on from the step that looked.
        heads = loaded.heads  # others may take their place meanwhile
        whole = heads.answers_from == "sections"
        params = self._params(loaded, pods, ids, variation) if whole else None
        text, first_token, count = "", 0.0, 0

        def remember(stopped: bool) -> Answer:
            now = time.perf_counter()
            answer = Answer(
                answer=without_echo(text) if found else NOT_FOUND,
                found=found,
                citations=with_support(text, citations, ranked, pages) if found else citations,
                sections=tuple(each.section.position for each in recalled),
                reused_tokens=sum(each.pod.num_tokens for each in recalled),
                recomputed_tokens=len(ids),
                first_token_seconds=first_token or now - start,
                seconds=now - start,
                tokens_per_second=count / (now - decoding) if count else 0.0,
                model=loaded.runner.model.name,
                recipe=reading.recipe,
                stopped=stopped,
                coverage=coverage,
                reading_seconds=self._store.seconds_to_read([each.section for each in recalled]),
            )
            return self._remember(document_id, question, answer, conversation_id, messages, again)

        with ExitStack() as stack:
            asked = stack.enter_context(Question(loaded.runner, pods, ids, heads.heads, params))
            ranked = rank(chosen.terms, indexes, engine.oom_retry.run(asked.attention), chosen.pages)
            found = bool(ranked) and ranked[0].found
            best = best_passages(ranked)
            pages.fetch({each.passage.page for each in best})
            citations = cite(best, pages)
            decoding = time.perf_counter()
            if not (found and whole):
                asked.close()
            try:
                yield Evidence(found, citations, coverage)
                if found:
                    if not whole:
                        pods = [engine.oom_retry.run(lambda: _passage(recalled, ranked[0]))]
                        params = self._params(loaded, pods, ids, variation)
                        asked = stack.enter_context(Question(loaded.runner, pods, ids, params=params))
                    tokenizer = loaded.runner.model.tokenizer
                    for piece in engine.oom_retry.begun(lambda: stream(tokenizer, asked.steps(stop.is_set))):
                        first_token = first_token or time.perf_counter() - start
                        count += 1
                        text += piece
                        if piece:
                            yield TextDelta(piece)
            except GeneratorExit:
                # Whoever listened has gone; what was said so far is kept, unless there is no place for it any longer.
                with suppress(AppError):
                    remember(stopped=True)
                raise
        yield remember(stop.is_set())

    def _params(
        self, loaded: Loaded, pods: Sequence[AnyPod], ids: Sequence[int], variation: tuple[float, float, int]
    ) -> SamplingParams:
        """How the answer is chosen, as long as the window allows."""
        room = loaded.runner.model.window - max(each.num_tokens for each in pods) - len(ids)
        return SamplingParams(min(self._max_answer_tokens, room), *variation)

    def _indexed(self, document_id: str, recalled: Sequence[Recalled]) -> list[PassageIndex]:
        """The passages of each section, found once for as long as its text is kept."""
        for each in recalled:
            if not (known := self._indexes(each.text)):
                pages = self._store.pages(document_id, {page.number for page in each.text.pages})
                known.append(index(each.text, {page.number: page.text for page in pages}))
        return [self._indexes(each.text)[0] for each in recalled]

    def _ids(self, loaded: Loaded, question: str, history: Sequence[Exchange]) -> list[int]:
        if not question:
            raise QuestionRejected("The question is empty.", "Type what you want to know.")
        ids = loaded.prompts.suffix(question, history)
        if len(ids) > loaded.question_tokens and history:
            ids = loaded.prompts.suffix(question)
        if len(ids) > loaded.question_tokens:
            raise QuestionRejected(
                f"The question has {len(ids):,} tokens; {loaded.question_tokens:,} fit beside the document.",
                "Ask for one thing at a time, in fewer words.",
            )
        return ids

    def _recall(
        self, engine: PodEngine, document_id: str, chosen: Route, recipe: str
    ) -> tuple[list[Recalled], Reading]:
        """The sections that matter, as far as they are read, in the order of the document; and their reading.

        Another recipe's memory may take the place of the one that answers at any moment; then that one answers.
        """
        tried = 0
        while (reading := engine.presets.serving(document_id, recipe)) is not None and reading.id != tried:
            tried = reading.id
            try:
                if recalled := self._sections(engine.recaller, reading, chosen):
                    with _kept():
                        self._store.touch_reading(reading.id)
                    return sorted(recalled, key=lambda each: each.section.position), reading
            except DocumentNotFound as gone:
                log.info("a memory went while a question was about to use it: %s", gone)
        if self._store.document(document_id) is None:
            raise DocumentNotFound("This document is not in the library.", "It may have been deleted; add it again.")
        raise NotRead("This document has not been read yet.", "Wait until its first pages are read, then ask again.")

    def _sections(self, recaller: Recaller, reading: Reading, chosen: Route) -> list[Recalled]:
        """As many sections as matter, of those that can be recalled."""
        candidates = [each for each in chosen.order(self._store.sections(reading.id)) if each.state != "waiting"]
        recaller.expect(candidates[: chosen.num_sections])
        recalled: list[Recalled] = []
        for section in candidates:
            if len(recalled) == chosen.num_sections:
                break
            if each := recaller.recall(section):
                recalled.append(each)
        return recalled

    def _messages(self, conversation_id: str) -> list[Message]:
        return self._store.messages(conversation_id) if conversation_id else []

    def _remember(
        self,
        document_id: str,
        question: str,
        answer: Answer,
        conversation_id: str,
        messages: Sequence[Message],
        again: Message | None,
    ) -> Answer:
        """Keep question, answer and citations in one transaction; the answer then knows where it is kept."""
        facts = asdict(answer)
        for key in ("answer", "found", "citations", "conversation_id", "message_id"):
            del facts[key]
        state: MessageState = "stopped" if answer.stopped else "done"
        message = Message(role="assistant", content=answer.answer, found=answer.found, facts=facts, state=state)
        rows = [Citation(**{**asdict(each), "boxes": list(each.boxes)}) for each in answer.citations]
        with _kept():
            if again is not None:
                kept = self._store.replace_answer(again.id, message, rows)
            else:
                conversation_id = conversation_id or self._store.start_conversation(document_id, question[:80]).id
                parent = messages[-1].id if messages else None
                _, kept = self._store.add_exchange(conversation_id, question, message, rows, parent)
        return Answer(**{**vars(answer), "conversation_id": conversation_id, "message_id": kept.id})


@contextmanager
def _kept() -> Iterator[None]:
    """What storage refuses, as the person who asks can use it."""
    try:
        yield
    except NotStored as error:
        raise DocumentNotFound(
            "The document or the conversation was deleted while the question was answered.", "Ask another document."
        ) from error
    except StorageFull as error:
        raise DiskFull(error.needed_bytes, error.free_bytes) from error


def _variation(again: Message | None, turns: int) -> tuple[float, float, int]:
    """Temperature, top-p and seed: the likeliest words first, other ones each time an answer is written again."""
    return (0.0, 1.0, 0) if again is None else (0.7, 0.9, again.id * 1_000 + turns + int(time.time()) % 1_000)


def _passage(recalled: Sequence[Recalled], best: Ranked) -> AnyPod:
    """What the model answers from, if not from the sections: the page up to the end of the best passage."""
    each = recalled[best.section]
    first = next(slot for page, slot in each.text.page_slots() if page.number == best.passage.page)
    return passage(each.pod, len(each.text.head), first, best.slots[1])


class _Pages(dict[int, Page]):
    """Pages of a document by number, each fetched when it is wanted: hardly any is shown."""

    def __init__(self, store: Store, document_id: str) -> None:
        super().__init__()
        self._store, self._document_id = store, document_id

    def fetch(self, numbers: Collection[int]) -> None:
        """Have some pages at once."""
        self.update((page.number, page) for page in self._store.pages(self._document_id, numbers))

    def __missing__(self, number: int) -> Page:
        self.fetch([number])
        if number not in self:
            raise DocumentNotFound("The document was deleted while the question was answered.", "Ask another document.")
        return self[number]


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
