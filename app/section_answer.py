"""The section answer: one question over the sections that matter, with passages first and the model's words behind.

A reader whose calibration says that it answers from whole sections is always asked, whatever was found. A weaker one
answers from the best passage, and of its words only those are shown that the passages hold.
"""

import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain

from app.answer_support import held_by, sentences, supports, unsupported
from app.citations import best_passages, cite, with_support
from app.conversations import Asked
from app.errors import QuestionRejected
from app.events import Answer, Cited, Evidence, TextDelta
from app.evidence import Ranked, rank
from app.model_work import OpenQuestion
from app.pod_engine import PodEngine
from app.reader_model import Loaded
from app.retrieval import Pages, Retriever
from app.routing import Route
from app.settings import Settings
from app.streaming import stream, without_echo
from app.words import stems, telling_stems
from engine.core.errors import PodMismatch
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from engine.runtime.context import Head
from storage import Message, Store

NOT_FOUND = "Not found in the document."
_REFUSAL = re.compile(
    r"(?:\bnot|n['’]t|\bnever) (?:\w+ ){0,3}(?:mention|state|say|provide|specif|contain|include|found|given|answer)"
    r"|\bno (?:information|mention|answer|such)\b",
    re.IGNORECASE,
)
_ASKS = ("?", "？", "؟")
_SAYING = stems("according report text page passage state says mention answer called named known")
"""Words that say that something is said."""
_TOPIC = re.compile(
    r"^\W*(?:please\s+)?(?:describe|explain|tell (?:me|us) (?:more |all |everything )?about|what is said of)\b"
    r"|\beverything (?:about|on)\b",
    re.IGNORECASE,
)


class SectionAnswer:
    """A question on its way to its answer, which can be had at any moment as far as it was said."""

    def __init__(self, store: Store, engine: PodEngine, retriever: Retriever, asked: Asked, settings: Settings) -> None:
        """Recalls what the question needs. Raises QuestionRejected, DocumentNotFound and NotRead."""
        self._start = time.perf_counter()
        self._store, self._engine, self._loaded, self._asked = store, engine, engine.loaded, asked
        self._settings = settings
        self._heads = self._loaded.heads  # others may take their place meanwhile
        self._weak = self._heads.answers_from != "sections"
        self._ids = _ids(self._loaded, asked.whole)
        self._route = Route(asked.whole, asked.document_id, store, retriever.meaning)
        self._recalled, self._reading = retriever.recall(engine, asked.document_id, self._route, asked.recipe)
        self._coverage = ""
        self._pages = Pages(store, asked.document_id)
        self.ranked: list[Ranked] = []
        """The passages, best first, once the model has looked."""
        self._citations: tuple[Cited, ...] = ()
        self._text, self._lead, self._most = "", "", 0
        self._withheld = False
        self._first_token, self._decoding, self._count = 0.0, 0.0, 0

    @property
    def _found(self) -> bool:
        return bool(self.ranked) and self.ranked[0].found

    @property
    def _is_derived(self) -> bool:
        """Whether the question asks for a figure that the best passage does not state, only what it is made of."""
        name = self._route.derived.name
        return bool(name) and not stems(name) <= self.ranked[0].passage.stems

    @property
    def _is_topic(self) -> bool:
        """Whether all that is said of something is asked for."""
        return _TOPIC.search(self._asked.whole) is not None

    def _on_topic(self) -> list[Ranked]:
        """The passages that name what is asked about themselves, if there are any."""
        own = [each for each in self.ranked if not each.passage.stems.isdisjoint(self._route.terms.weights)]
        return [each for each in own if not each.passage.is_head] or self.ranked

    def events(self, stop: threading.Event) -> Generator[Evidence | TextDelta, None, None]:
        """Evidence once, then pieces of text, until `stop` is set."""
        loaded, oom_retry, pods = self._loaded, self._engine.oom_retry, [each.pod for each in self._recalled]
        with ExitStack() as stack:
            # A weak reader's look at whole sections made the order of passages worse (docs/evidence.md). Where the
            # answer is from the same pods, it goes on from the step that looked.
            asked = None if self._weak else self._question(pods, self._heads.heads)
            if asked:
                oom_retry.run(stack.enter_context(asked).begin)
            # While the device is at work.
            self._coverage = self._engine.recaller.coverage(self._reading)
            route, texts = self._route, [each.text for each in self._recalled]
            found = route.candidates
            attention = oom_retry.run(asked.attention) if asked else None
            self.ranked = rank(route.question, route.terms, found, texts, attention)
            ranked = self._on_topic() if self._weak and self._is_topic else self.ranked
            best = best_passages(ranked, self._settings.passages)
            self._pages.fetch({each.passage.page for each in best})
            self._citations = cite(best, self._pages)
            self._decoding = time.perf_counter()
            yield Evidence(
                self._found, self._citations, self._coverage, self._asked.understood, not self._found and not self._weak
            )
            if self._weak and (not self._found or self._is_derived or self._is_topic):
                return
            if asked is None:
                if self._citations[0].words and not stop.is_set():
                    self._lead = _lead(best, self._citations)
                    self._first_token = time.perf_counter() - self._start
                    yield TextDelta(self._lead)
                pods = [self._passage()]
                asked = stack.enter_context(self._question(pods))
            tokenizer = loaded.runner.model.tokenizer
            pieces = oom_retry.begun(lambda: stream(tokenizer, asked.steps(stop.is_set)))
            for piece in self._held(pieces) if self._weak else self._said(pieces):
                self._first_token = self._first_token or time.perf_counter() - self._start
                if piece:
                    yield TextDelta(piece)

    def answer(self, stopped: bool) -> Answer:
        """The answer as far as it was said."""
        now, citations = time.perf_counter(), self._citations
        words = without_echo(self._text)
        ended = "repeated" if words != self._text.strip() else "cut" if 0 < self._most <= self._count else ""
        found = self._found
        if words:
            citations = with_support(words, citations, self.ranked, self._pages, self._settings.passages)
            found = found or self._answers(words)
        words, foreign = self._marked(words, citations)
        if self._weak and found and self._is_derived:
            marks = " ".join(f"[{each.mark}]" for each in citations)
            words = f"This figure is worked out from lines like those quoted; this reader does not calculate. {marks}"
        elif self._weak and found and self._is_topic:
            words = "\n".join(f"- {each.quote} [{each.mark}]" for each in citations)
        elif self._withheld and not words and not self._lead:
            # The passage itself answers.
            words = f"{citations[0].quote} [1]"
        if self._lead:
            words = f"{self._lead}\n\n{words}".strip()
            foreign = ()
        return Answer(
            answer=words if found else self._not_found(),
            found=found,
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
            understood=self._asked.understood,
            unsupported=foreign if found else (),
            withheld=self._withheld and not stopped,
            ended=ended if found and not self._withheld else "",
            weak=self._weak,
        )

    def _said(self, pieces: Iterator[str]) -> Iterator[str]:
        """The words as they come."""
        for piece in pieces:
            self._count += 1
            self._text += piece
            yield piece

    def _held(self, pieces: Iterator[str]) -> Iterator[str]:
        """Sentence by sentence, the words that the passages hold, as far as they do."""
        said, shown = "", 0
        quotes = [each.quote for each in self._citations]
        pages = [self._pages[each.page].text for each in self._citations]

        def wrong(sentence: str) -> bool:
            """Whether a sentence says what no passage does, or something else than the characters that answer.

            It may leave out, but add nothing, not even a word of the question: "three things went wrong".
            """
            mark = held_by(sentence, quotes)
            if not mark or sentence.endswith(_ASKS) or unsupported(sentence, quotes, self._asked.whole, pages):
                return True
            if telling_stems(sentence) - stems(quotes[mark - 1]) - _SAYING:
                return True
            answer = self._citations[0].words
            return bool(answer) and shown == 0 and not supports(answer, sentence)

        for piece in chain(pieces, [None]):
            said += piece or ""
            self._count += piece is not None
            # The last one is not at its end until all of them are.
            for start, end in sentences(said)[: None if piece is None else -1]:
                if start < shown:
                    continue
                if wrong(said[start:end]):
                    self._withheld = True
                    return
                yield ("\n\n" if self._lead and not shown else said[shown:start]) + said[start:end]
                shown, self._text = end, said[:end]

    def _answers(self, words: str) -> bool:
        """Whether a strong reader's own words answer, although nothing stood out: no refusal, and nothing of it foreign
        to every passage."""
        if _REFUSAL.search(words):
            return False
        quotes = [each.passage.quote for each in self.ranked]
        return len(unsupported(words, quotes, self._asked.whole, quotes)) == 0

    def _not_found(self) -> str:
        """What was looked at in vain."""
        if self._coverage:
            return f"Not found in {self._coverage}, the part that is read so far. The closest passages are shown."
        pages = self._store.document(self._asked.document_id)
        looked = f"all {pages.num_pages} pages" if pages and pages.num_pages > 1 else "the whole of it"
        absent = " and ".join(f"“{name}”" for name in self._route.terms.absent)
        nowhere = f" {absent} stands nowhere in it." if absent else ""
        return f"{NOT_FOUND}{nowhere} I looked through {looked}; the closest passages are shown."

    def _marked(self, words: str, citations: Sequence[Cited]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The words with `[1]` behind what citation 1 holds, and where they say what no citation does."""
        quotes = [each.quote for each in citations]
        pages = [self._pages[each.page].text for each in citations]
        marked, foreign, last = "", [], 0
        for start, end in sentences(words):
            marked += words[last:start]
            missing = unsupported(words[start:end], quotes, self._asked.whole, pages)
            foreign += [(len(marked) + each.start, len(marked) + each.end) for each in missing]
            mark = held_by(words[start:end], quotes)
            marked, last = marked + words[start:end] + (f" [{mark}]" if mark else ""), end
        return marked + words[last:], tuple(foreign)

    def _question(self, pods: Sequence[AnyPod], heads: Sequence[Head] = ()) -> OpenQuestion:
        """The question over the pods as the chosen reader reads them. Raises QuestionRejected where it cannot."""
        try:
            return self._engine.work.question(pods, self._ids, heads, self._params(pods), self._settings.reader)
        except PodMismatch as error:
            raise QuestionRejected(
                f"{error}.", "Read the document by another recipe, or leave out --reader."
            ) from error

    def _passage(self) -> AnyPod:
        """What the model answers from, if not from the sections: the page up to the end of the best passage in them."""
        best = next((each for each in self.ranked if each.section >= 0), None)
        if best is None:
            # The best ones are not read yet.
            return self._recalled[0].pod
        each = self._recalled[best.section]
        first = next(slot for page, slot in each.text.page_slots() if page.number == best.passage.page)
        return self._engine.work.passage(each.pod, len(each.text.head), first, best.slots[1])

    def _params(self, pods: Sequence[AnyPod]) -> SamplingParams:
        """How the answer is chosen, as long as the window allows."""
        room = self._loaded.runner.model.window - max(each.num_tokens for each in pods) - len(self._ids)
        self._most = min(self._settings.max_answer_tokens, room)
        return SamplingParams(self._most, *_variation(self._asked.again, len(self._asked.messages)))


def _ids(loaded: Loaded, question: str) -> list[int]:
    if not question:
        raise QuestionRejected("The question is empty.", "Type what you want to know.")
    ids = loaded.prompts.suffix(question)
    if len(ids) > loaded.question_tokens:
        raise QuestionRejected(
            f"The question has {len(ids):,} tokens; {loaded.question_tokens:,} fit beside the document.",
            "Ask for one thing at a time, in fewer words.",
        )
    return ids


def _lead(best: Sequence[Ranked], citations: Sequence[Cited]) -> str:
    """The characters that answer, part by part of the question, and where they stand."""
    is_note = best[0].passage.is_note
    told = [
        f"{cited.words} ({'a note on ' if is_note else ''}p. {cited.label or cited.page})"
        for each, cited in zip(best, citations, strict=True)
        if cited.mark == 1 or (each.beside and each.passage.is_note == is_note and cited.words)
    ]
    return "; ".join(told)


def _variation(again: Message | None, turns: int) -> tuple[float, float, int]:
    """Temperature, top-p and seed: the likeliest words first, other ones each time an answer is written again."""
    return (0.0, 1.0, 0) if again is None else (0.7, 0.9, again.id * 1_000 + turns + int(time.time()) % 1_000)
