"""One document in the app: reading it, asking it from every place, and what the engine's bench says beside it."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.events import Answer, Evidence, TextDelta
from app.main import App
from app.passages import split
from app.warming import Warming
from benchmarks.speed import docpod
from benchmarks.speed.clock import forget_peak, peak_gb
from benchmarks.speed.places import Folder
from benchmarks.speed.random_pods import random_pod
from engine.core.errors import EngineError
from storage import unpack_token_ids

PLACES = ("gpu", "ram", "disk")
_QUESTION_WORDS = 20
_BENCH_TOKENS = 64
_BENCH_REPEATS = 3


class NotFound(EngineError):
    """A question that holds the words of a passage was said to have no answer."""


@dataclass(frozen=True)
class Asked:
    """Milliseconds to the passages and to the first word, and tokens per second after it."""

    passages_ms: float
    first_word_ms: float
    decode_tok_s: float


@dataclass(frozen=True)
class Engine:
    """What the engine's bench measures in the same process; reading only of recipes that it reads in one pass."""

    read_tok_s: float | None
    decode_tok_s: float


class Session:
    """A document in an app whose background is not running, so that nothing else is at work."""

    def __init__(self, app: App, file: Path, say: Callable[[str], None]) -> None:
        self._app = app
        self._say = say
        self._engine = app.model.wait()
        self._loaded = self._engine.loaded
        self._device = self._loaded.runner.model.device
        document = app.library.intake.keep(file, file.name, move=False)
        start = time.perf_counter()
        for _ in app.library.intake.parse(document):
            pass
        self.parse_seconds = time.perf_counter() - start
        self._id = document.id
        self._questions = _questions([page.text for page in app._store.pages(document.id)])

    @property
    def tokens(self) -> int:
        """Of the document."""
        return self._engine.presets.plan(self._id).num_tokens

    def ids(self) -> list[int]:
        """Token ids of the document's first section, which is all of it where the model's window is long enough."""
        sections = self._app._store.sections(self._engine.presets.plan(self._id).id)
        return list(unpack_token_ids(sections[0].token_ids))

    def read(self, recipe: str) -> float:
        """Read it by a recipe, every block safe on the disk, from the text alone; tokens per second."""
        app = self._app
        app.library.choose(self._id, recipe)
        forget_peak(self._device)
        start = time.perf_counter()
        for _ in app.library.wait(self._id):
            pass
        seconds = time.perf_counter() - start
        for other in self._engine.planner.readings(self._id):
            if other.id != self._engine.presets.plan(self._id).id:
                # No recipe may be made from the memory of another one.
                app.library.drop(self._id, other.recipe)
        self._say(f"{recipe}: {self.tokens:,} tokens read in {seconds:.2f} s")
        return self.tokens / seconds

    def ask(self, place: str) -> Asked:
        """Medians over some questions, each of which finds the document's pod in that place, and its passages at hand,
        as in the app after a first question.
        """
        Warming(self._app._store, self._app.model).warm(self._id)
        reading = self._engine.presets.plan(self._id)
        seen = []
        for question in self._questions:
            if place == "ram":
                self._loaded.tiers.relieve()
            elif place == "disk":
                self._engine.recaller.forget(reading.id)
            try:
                seen.append(self._ask(question))
                self._say(f"{reading.recipe}, pod: {place}, {seen[-1]}")
            except NotFound as nothing:
                self._say(str(nothing))
        if not seen:
            raise NotFound("no question was answered")
        medians = (statistics.median(each) for each in zip(*(vars(each).values() for each in seen), strict=True))
        return Asked(*medians)

    def peak_gb(self) -> float:
        """Since the last reading began."""
        return peak_gb(self._device)

    def engine(self, recipe: str) -> Engine:
        """The bench of the engine over as many tokens, with the app's runner."""
        runner, layout = self._loaded.runner, self._loaded.recipes[recipe].layout
        reads = layout.recipe.exact or layout.recipe.precision.while_reading
        if layout.recipe.coding.step:
            # In memory it is exact.
            layout = self._loaded.recipes["exact"].layout
        self._engine.recaller.forget(self._engine.presets.plan(self._id).id)
        task = docpod.Task(recipe, layout, self.tokens, _BENCH_TOKENS, _BENCH_REPEATS, True, False, ())
        question = docpod.ids_of(runner.model, docpod.QUESTION_TOKENS, 1)
        speed = None
        if reads:
            with tempfile.TemporaryDirectory(dir=self._app.settings.home) as scratch:
                pod, speed = docpod.read(runner, task, Folder(Path(scratch)), self._say)
        else:
            pod = random_pod(runner.model, layout, self.tokens)
        rates = [docpod.answer(runner, pod, question, _BENCH_TOKENS)[1] for _ in range(_BENCH_REPEATS + 1)]
        return Engine(speed, statistics.median(rates[1:]))

    def _ask(self, question: str) -> Asked:
        start = time.perf_counter()
        passages = first_word = 0.0
        for event in self._app.questions.ask(self._id, question):
            if isinstance(event, Evidence):
                passages = time.perf_counter() - start
                if not event.found:
                    raise NotFound(f"no passage was found for {question!r}")
            if isinstance(event, TextDelta | Answer):
                first_word = first_word or time.perf_counter() - start
            if isinstance(event, Answer):
                answer = event
        count = round(answer.tokens_per_second * (answer.seconds - passages))
        seconds = answer.seconds - answer.first_token_seconds
        # Of a weak reader's words it may be that none was shown.
        rate = (count - 1) / seconds if count > 1 and seconds > 0 else answer.tokens_per_second
        return Asked(1e3 * passages, 1e3 * first_word, rate)


def _questions(pages: Sequence[str]) -> list[str]:
    """Questions in the words of passages that stand at a quarter, a half and three quarters of the document."""
    texts = [text for text in pages if len(text.split()) > _QUESTION_WORDS]
    if not texts:
        raise NotFound("no page of the document has text enough for a question")
    found = []
    for quarter in (1, 2, 3):
        text = texts[len(texts) * quarter // 4]
        passage = max(split(1, text), key=lambda each: len(set(each.text.split())))
        found.append(" ".join(passage.text.split()[:_QUESTION_WORDS]) + "?")
    return found
