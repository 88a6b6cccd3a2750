"""The whole answer: a page, a chapter or all of a document in a few points, each with the passage that holds it.

A weak reader quotes: the points are the main sentences of the text. A strong one writes: a few sentences a section from
its own pod (map), then one answer from these (reduce). Either is kept, so that it is there at once the next time.
"""

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence

from app.answer_support import held_by, sentences, unsupported
from app.citations import cited
from app.contents import body, chapters
from app.conversations import Asked, keeping
from app.document_answer import parsed_document
from app.errors import NotRead
from app.events import Answer, Cited, Evidence, TextDelta, Working
from app.main_points import main_points
from app.model_handle import ModelHandle
from app.page_names import page_number
from app.passages import Passage, split
from app.question_kind import Asking
from app.recall import Recalled
from app.streaming import stream, without_echo
from app.words import stems
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from storage import Section, Store

_VERSION = 4
"""Of the prompts and of the choice of sentences: notes made by others are made anew."""
_POINTS, _QUOTES, _PAGE_POINTS = 6, 8, 5
_CHAPTERS = 24
"""Most chapters that are named before the points."""
_CONTENTS = re.compile(
    "(?:table of )?contents|inhalt(?:sverzeichnis)?|table des matières|sommaire|índice|目录|目次|المحتويات",
    re.IGNORECASE,
)
"""The entry of a table of contents that is that table."""
_MAP = "Summarise this part of the document in three short sentences, with its most important names and figures."
_PAGE = "What does this page say? Answer in two or three short sentences."
_REDUCE = "Summarise the document in {points} from these notes, with its most important names and figures."
Point = tuple[str, int, int, int]
"""Words, and the page and characters of it that hold them; page 0 where none does."""


class Interrupted(Exception):
    """The model goes while something that can wait is made."""


class WholeAnswer:
    """A question about all of a document, or of a part of it, on its way to its answer."""

    def __init__(self, store: Store, model: ModelHandle, asked: Asked, asking: Asking, max_answer_tokens: int) -> None:
        """Raises DocumentNotFound, NotRead and ModelUnavailable."""
        self._start = time.perf_counter()
        self._store, self._asked, self._asking = store, asked, asking
        self._max_answer_tokens = max_answer_tokens
        self._document = parsed_document(store, asked.document_id)
        self._engine = model.wait()
        self.is_weak = self._engine.loaded.heads.answers_from != "sections"
        """Whether it is answered with quotes alone."""
        self._first, self._last, self._intro = self._scope()
        self._points: list[Point] = []
        self._sections: list[Section] = []
        self._coverage, self._recipe = "", ""
        self._reused, self._new, self._first_token = 0, 0, 0.0
        self._words = ""
        self._citations: tuple[Cited, ...] = ()
        self._unsupported: tuple[tuple[int, int], ...] = ()

    def events(self, stop: threading.Event) -> Generator[Working | Evidence | TextDelta, None, None]:
        """How far it is, then evidence once and the words; what was made of sections is kept, also when stopped."""
        if self._first:
            kept = {} if self._asked.again else self._store.notes(self._document.id)
            if self._key in kept:
                self._points = [tuple(each) for each in kept[self._key]]
            elif self.is_weak:
                self._points = self._quoted()
                self._keep(self._key, self._points)
            else:
                yield from self._written(kept, stop)
                if self._points and not stop.is_set() and not self._coverage:
                    self._keep(self._key, self._points)
        self._lay_out()
        self._first_token = time.perf_counter() - self._start
        yield Evidence(bool(self._points), self._citations, self._coverage)
        if self._points:
            yield TextDelta(self._words)

    @property
    def is_kept(self) -> bool:
        """Whether it was made before."""
        return self._key in self._store.notes(self._document.id)

    def prepare(self) -> None:
        """Make and keep it whenever nobody is at work: page by page what a weak reader quotes; section by section, each
        until somebody asks, what a strong one writes of a document that is read. Raises Interrupted and NotRead."""
        idle = self._engine.loaded.idle

        def pause() -> None:
            if not idle.wait():
                raise Interrupted

        if self.is_weak and not self.is_kept:
            self._keep(self._key, self._quoted(pause))
        while not self.is_kept:
            pause()
            for _ in self.events(idle.over):
                pass
            if self._coverage or not (self._points or idle.over.is_set()):
                return

    def answer(self, stopped: bool) -> Answer:
        """The answer as far as it was made."""
        now = time.perf_counter() - self._start
        return Answer(
            answer=self._words,
            found=bool(self._points),
            citations=self._citations,
            sections=tuple(each.position for each in self._sections),
            reused_tokens=self._reused,
            recomputed_tokens=self._new,
            first_token_seconds=self._first_token or now,
            seconds=now,
            tokens_per_second=0.0,
            model=self._engine.loaded.runner.model.name,
            recipe=self._recipe,
            stopped=stopped,
            coverage=self._coverage,
            reading_seconds=self._store.seconds_to_read(self._sections),
            unsupported=self._unsupported,
            weak=self.is_weak,
        )

    @property
    def _key(self) -> str:
        """What it is kept by."""
        by = "quoted" if self.is_weak else self._engine.loaded.runner.model.digest
        return f"{_VERSION} {by} {self._form} {self._first}-{self._last}"

    @property
    def _form(self) -> str:
        """How many points are wanted, and as what."""
        whole = _QUOTES if self.is_weak else _POINTS
        most = whole if self._asking.kind == "whole" else _PAGE_POINTS
        return f"{self._asking.points or most} {'bullet points' if self._asking.bullets else 'sentences'}"

    def _scope(self) -> tuple[int, int, str]:
        """First and last page that are meant, and how they are named; 0 where there are none."""
        document, count = self._document, self._document.num_pages
        if self._asking.kind == "page":
            number = page_number(self._asking.page, self._store.pages(document.id))
            if not number:
                pages = f"{count:,} {'page' if count == 1 else 'pages'}"
                return 0, 0, f"There is no page {self._asking.page}: the document has {pages}."
            page = self._store.pages(document.id, [number])[0]
            named = f"Page {page.label}" + ("" if page.label == str(number) else f" (page {number} of the file)")
            if not page.text.strip():
                return 0, 0, f"{named} has no text that could be read."
            return number, number, named
        if self._asking.part:
            for index, (level, title, first) in enumerate(document.outline):
                if _is_part(title, self._asking.part):
                    behind = (start for depth, _, start in document.outline[index + 1 :] if depth <= level)
                    return first, max(first, next(behind, count + 1) - 1), f"“{' '.join(title.split())}”"
            return 0, 0, f"The table of contents names no chapter {self._asking.part}."
        pages = f"{count:,} {'page' if count == 1 else 'pages'}"
        top = chapters(document.outline) if document.outline else []
        titles = [title for title, _ in top if not _CONTENTS.fullmatch(title.strip())]
        named = f", with the chapters {'; '.join(titles)}" if 1 < len(titles) <= _CHAPTERS else ""
        return 1, count, f"“{document.title}”, {pages}{named}"

    def _quoted(self, pause: Callable[[], object] = bool) -> list[Point]:
        """The main sentences of the pages, as they stand, with a pause before each page that is looked at."""
        every = self._store.pages(self._document.id)
        pages = [each for each in every if self._first <= each.number <= self._last]
        others = [each for each in every if not self._first <= each.number <= self._last]
        pages = pages if others else body(pages, self._document.outline)
        for page in pages:
            pause()
            # What takes long, and is remembered.
            split(page.number, page.text)
        entries = [entry for entry in self._document.outline if pages[0].number <= entry[2] <= pages[-1].number]
        most = int(self._form.split()[0])
        least = self._asking.points or _PAGE_POINTS
        found = main_points(pages, most, entries, "" if others else self._document.title, others, least)
        return [(each.quote, each.page, each.start, each.end) for each in found]

    def _written(self, kept: dict[str, list[Point]], stop: threading.Event) -> Iterator[Working]:
        """The points of a strong reader, section by section and then of all of them."""
        engine, reading = self._engine, self._engine.presets.serving(self._document.id, self._asked.recipe)
        if reading is None:
            raise NotRead(
                "This document has not been read yet.", "Wait until its first pages are read, then ask again."
            )
        self._recipe, self._coverage = reading.recipe, engine.recaller.coverage(reading)
        sections = [
            each
            for each in self._store.sections(reading.id)
            if each.last_page >= self._first and each.first_page <= self._last and each.state != "waiting"
        ]
        found: list[Point] = []
        self._sections = []
        for done, section in enumerate(sections):
            yield Working(f"Reading pages {section.first_page}-{section.last_page}", done, len(sections))
            if stop.is_set():
                break
            part = f"{_VERSION} {section.identity} {self._first}-{self._last}"
            if part in kept:
                found += kept[part]
            elif recalled := engine.recaller.recall(section):
                points = self._of_section(recalled, stop)
                if section.state == "ready" and not stop.is_set():
                    self._keep(part, points)
                found += points
            self._sections.append(section)
        self._points = found
        if len(sections) > 1 or (self._asking.points and self._asking.kind == "whole"):
            yield Working("Putting it together", len(sections), len(sections))
            if found and not stop.is_set():
                self._points = self._reduced(found, stop) or found

    def _of_section(self, recalled: Recalled, stop: threading.Event) -> list[Point]:
        """What the model says of a section, or of a page of it, from its own pod; each with what holds it."""
        pod, text = recalled.pod, recalled.text
        if self._asking.kind == "page":
            slots = [(slot, slot + len(page.ids) - 1) for page, slot in text.page_slots() if page.number == self._first]
            if not slots:
                return []
            first, last = slots[0][0], slots[-1][1]
            if self._engine.loaded.runner.model.shape.divisible:
                pod = self._engine.work.passage(pod, len(text.head), first, last)
            else:
                pod = self._engine.work.short([*text.head, *text.ids[first : last + 1]])
        said = self._ask(pod, _PAGE if self._asking.kind == "page" else _MAP, stop)
        numbers = {page.number for page in text.pages if self._first <= page.number <= self._last}
        pages = self._store.pages(self._document.id, numbers)
        passages = [each for page in pages for each in split(page.number, page.text)]
        return [_supported(said[start:end], passages) for start, end in sentences(said)]

    def _reduced(self, found: Sequence[Point], stop: threading.Event) -> list[Point]:
        """One answer from the points of all sections, which the model reads as its document."""
        loaded = self._engine.loaded
        notes = "\n".join(words for words, *_ in found)
        ids = [*loaded.prompts.head(), *loaded.runner.model.tokenizer.encode(notes + "\n\n")[0]]
        pod = self._engine.work.short(ids[: loaded.section_tokens])
        said = self._ask(pod, _REDUCE.format(points=self._form), stop)
        lines = [said[start:end].lstrip("-*• ") for start, end in sentences(said)]
        return [_nearest(line, found) for line in lines if line]

    def _ask(self, pod: AnyPod, question: str, stop: threading.Event) -> str:
        """All that the model says to a question over a pod."""
        loaded = self._engine.loaded
        ids = loaded.prompts.suffix(question)
        room = loaded.runner.model.window - pod.num_tokens - len(ids)
        self._reused, self._new = self._reused + pod.num_tokens, self._new + len(ids)
        params = SamplingParams(min(self._max_answer_tokens, room))
        with self._engine.work.question([pod], ids, params=params) as asked:
            pieces = self._engine.oom_retry.begun(
                lambda: stream(loaded.runner.model.tokenizer, asked.steps(stop.is_set))
            )
            return without_echo("".join(pieces))

    def _keep(self, part: str, points: Sequence[Point]) -> None:
        with keeping():
            self._store.keep_notes(self._document.id, part, points)

    def _lay_out(self) -> None:
        """The words with their citations, from the points."""
        numbers = {page for _, page, _, _ in self._points if page}
        pages = {page.number: page for page in self._store.pages(self._document.id, numbers)} if numbers else {}
        bullets = self._asking.bullets or self.is_weak or self._asking.kind == "page"
        citations: list[Cited] = []
        foreign: list[tuple[int, int]] = []
        marks: dict[tuple[int, int, int], int] = {}
        words = self._intro + ("." if self._points and not self._intro.endswith(".") else "")
        for index, (said, number, start, end) in enumerate(self._points):
            words += ("\n\n" if not index else "\n" if bullets else " ") + ("- " if bullets else "")
            quotes = [pages[number].text[start:end]] if number in pages else []
            missing = unsupported(said, quotes) if not self.is_weak else []
            foreign += [(len(words) + each.start, len(words) + each.end) for each in missing]
            words += said
            if page := pages.get(number):
                mark = marks.setdefault((number, start, end), len(citations) + 1)
                if mark > len(citations):
                    citations.append(cited(mark, page, Passage(number, start, end, page.text[start:end])))
                words += f" [{mark}]"
        self._words, self._citations, self._unsupported = words, tuple(citations), tuple(foreign)


def _is_part(title: str, number: str) -> bool:
    """Whether a line of a table of contents is the chapter of this number."""
    words = title.casefold().replace(":", " ").split()
    return number.casefold() in [word.rstrip(".") for word in words[:2]] if words else False


def _supported(words: str, passages: Sequence[Passage]) -> Point:
    """A sentence with the passage that holds it, if one does."""
    near = sorted(passages, key=lambda each: len(stems(words) & each.stems), reverse=True)[:20]
    mark = held_by(words, [each.quote for each in near])
    return (words, near[mark - 1].page, near[mark - 1].start, near[mark - 1].end) if mark else (words, 0, 0, 0)


def _nearest(words: str, points: Sequence[Point]) -> Point:
    """A sentence with what holds the point that it shares most words with."""
    _, *place = max(points, key=lambda each: len(stems(words) & stems(each[0])))
    return (words, place[0], place[1], place[2])
