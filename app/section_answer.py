"""The section answer: one question over the sections that matter, with passages first and the model's words behind."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack

from app.citations import best_passages, cite, with_support
from app.conversations import Asked
from app.errors import QuestionRejected
from app.events import Answer, Cited, Evidence, TextDelta
from app.evidence import Ranked, rank
from app.pod_engine import PodEngine
from app.prompts import Exchange
from app.reader_model import Loaded
from app.recall import Recalled
from app.retrieval import Pages, Retriever
from app.routing import Route
from app.streaming import stream, without_echo
from engine.core.sampling import SamplingParams
from engine.evidence.calibration import passage
from engine.kvcache.quantized import AnyPod
from engine.runtime.generate import Question
from storage import Message, Store

NOT_FOUND = "Not found in the document."


class SectionAnswer:
    """A question on its way to its answer, which can be had at any moment as far as it was said."""

    def __init__(
        self, store: Store, engine: PodEngine, retriever: Retriever, asked: Asked, max_answer_tokens: int
    ) -> None:
        """Recalls what the question needs. Raises QuestionRejected, DocumentNotFound and NotRead."""
        self._start = time.perf_counter()
        self._store, self._engine, self._loaded = store, engine, engine.loaded
        self._max_answer_tokens = max_answer_tokens
        self._variation = _variation(asked.again, len(asked.messages))
        exchanges = asked.exchanges
        self._route = Route(asked.question, [each.question for each in exchanges], asked.document_id, store)
        self._ids = _ids(self._loaded, asked.question, exchanges[-1:] if self._route.depends else [])
        self._recalled, self._reading = retriever.recall(engine, asked.document_id, self._route, asked.recipe)
        self._retriever, self._coverage = retriever, ""
        self._pages = Pages(store, asked.document_id)
        self._ranked: list[Ranked] = []
        self._citations: tuple[Cited, ...] = ()
        self._text, self._first_token, self._decoding, self._count = "", 0.0, 0.0, 0

    @property
    def _found(self) -> bool:
        return bool(self._ranked) and self._ranked[0].found

    def events(self, stop: threading.Event) -> Generator[Evidence | TextDelta, None, None]:
        """Evidence once, then pieces of text, until `stop` is set."""
        loaded, oom_retry, pods = self._loaded, self._engine.oom_retry, [each.pod for each in self._recalled]
        # Where the answer is from the same pods, it goes on from the step that looked.
        heads = loaded.heads  # others may take their place meanwhile
        whole = heads.answers_from == "sections"
        params = self._params(pods) if whole else None
        with ExitStack() as stack:
            asked = stack.enter_context(Question(loaded.runner, pods, self._ids, heads.heads, params))
            oom_retry.run(asked.begin)
            # While the device is at work.
            self._coverage = self._engine.recaller.coverage(self._reading)
            indexes, pages = self._retriever.indexed(self._pages.document_id, self._recalled), self._route.pages
            terms = self._route.terms
            self._ranked = rank(terms, indexes, oom_retry.run(asked.attention), pages)
            best = best_passages(self._ranked)
            self._pages.fetch({each.passage.page for each in best})
            self._citations = cite(best, self._pages)
            self._decoding = time.perf_counter()
            if not (self._found and whole):
                asked.close()
            yield Evidence(self._found, self._citations, self._coverage)
            if not self._found:
                return
            if not whole:
                pods = [oom_retry.run(lambda: _passage(self._recalled, self._ranked[0]))]
                asked = stack.enter_context(Question(loaded.runner, pods, self._ids, params=self._params(pods)))
            tokenizer = loaded.runner.model.tokenizer
            for piece in oom_retry.begun(lambda: stream(tokenizer, asked.steps(stop.is_set))):
                self._first_token = self._first_token or time.perf_counter() - self._start
                self._count += 1
                self._text += piece
                if piece:
                    yield TextDelta(piece)

    def answer(self, stopped: bool) -> Answer:
        """The answer as far as it was said."""
        now, citations = time.perf_counter(), self._citations
        if self._found:
            citations = with_support(self._text, citations, self._ranked, self._pages)
        return Answer(
            answer=without_echo(self._text) if self._found else NOT_FOUND,
            found=self._found,
            citations=citations,
            sections=tuple(each.section.position for each in self._recalled),
            reused_tokens=sum(each.pod.num_tokens for each in self._recalled),
            recomputed_tokens=len(self._ids),
            first_token_seconds=self._first_token or now - self._start,
            seconds=now - self._start,
            tokens_per_second=self._count / (now - self._decoding) if self._count else 0.0,
            model=self._loaded.runner.model.name,
            recipe=self._reading.recipe,
            stopped=stopped,
            coverage=self._coverage,
            reading_seconds=self._store.seconds_to_read([each.section for each in self._recalled]),
        )

    def _params(self, pods: Sequence[AnyPod]) -> SamplingParams:
        """How the answer is chosen, as long as the window allows."""
        room = self._loaded.runner.model.window - max(each.num_tokens for each in pods) - len(self._ids)
        return SamplingParams(min(self._max_answer_tokens, room), *self._variation)


def _ids(loaded: Loaded, question: str, history: Sequence[Exchange]) -> list[int]:
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


def _variation(again: Message | None, turns: int) -> tuple[float, float, int]:
    """Temperature, top-p and seed: the likeliest words first, other ones each time an answer is written again."""
    return (0.0, 1.0, 0) if again is None else (0.7, 0.9, again.id * 1_000 + turns + int(time.time()) % 1_000)


def _passage(recalled: Sequence[Recalled], best: Ranked) -> AnyPod:
    """What the model answers from, if not from the sections: the page up to the end of the best passage."""
    each = recalled[best.section]
    first = next(slot for page, slot in each.text.page_slots() if page.number == best.passage.page)
    return passage(each.pod, len(each.text.head), first, best.slots[1])
