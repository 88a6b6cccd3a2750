"""A replica: one model that reads sections and answers over pods for pages, which have the database.

All that it is asked comes with the rows that it needs, and what it writes it tells as rows: it may end at any moment.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from app.block_store import BlockStore
from app.cluster.wire import Values, array_out, blocks_in, blocks_out, failure_out, section_in
from app.errors import AppError
from app.model_work import ModelWork
from app.oom_retry import OomRetry
from app.reader_model import ReaderModel
from app.section_reader import SectionReader
from app.settings import Settings
from engine.core.errors import EngineError
from engine.core.sampling import SamplingParams
from engine.kvcache.quantized import AnyPod
from engine.runtime.outline import outline
from engine.runtime.prefill.builder import chunk_tokens
from storage import Block, Home, Section, StorageAway, StorageError

KEY = "cluster.key"
"""In the home: what pages show to replicas."""
_CALIBRATION_SECONDS = 3_600.0


class _Damaged(Exception):
    """A section whose blocks are not what was written."""


class _Told:
    """The journal of one piece of work: the rows that came with it, and what is to be told of new ones."""

    def __init__(self, mark: Path | None, rows: dict[int, list[Block]]) -> None:
        self._mark, self._rows = mark, rows
        self.events: deque[Values] = deque()

    def section(self, section_id: int) -> Section | None:
        return None

    def blocks(self, section_id: int) -> list[Block]:
        return self._rows[section_id]

    def add_block(self, section_id: int, *rows: Block) -> list[str]:
        return self._tell(kept=blocks_out(rows))

    def replace_block(self, section_id: int, row: Block) -> list[str]:
        return self._tell(scores=blocks_out([row]))

    def finish_section(self, section_id: int, seconds: float, instead: Sequence[Block] = ()) -> list[str]:
        return self._tell(ended=seconds, instead=blocks_out(instead))

    def add_section_seconds(self, section_id: int, seconds: float) -> None:
        self._tell(seconds=seconds)

    def drop_blocks(self, section_id: int, only_with: Collection[str] = ()) -> list[str]:
        if self._mark and not self._mark.exists():
            raise StorageAway("the store is away")
        return self._tell(damaged=section_id)

    def _tell(self, **event: object) -> list[str]:
        self.events.append(event)
        return []

    def said(self) -> Iterator[Values]:
        """What was not told yet."""
        while self.events:
            yield self.events.popleft()


class Replica:
    """Does what pages ask; each verb gives plain values, one after another. Several threads may use it."""

    def __init__(self, settings: Settings) -> None:
        """Loads the model. Raises ModelUnavailable, and what opening the home raises."""
        self._home = Home(settings.home, **settings.places)
        mark = self._home.bytes / "library" / "mark" if settings.store else self._home.root / KEY
        self._mark = None if "://" in settings.store else mark
        """Where this is not, the folder of the store is away, and no missing file of it is damage."""
        model = ReaderModel(settings, self._home.models)
        self._loaded, self._settings = model.ready(), settings
        # Pages take over where it looks, so that all replicas look there.
        model.calibrated(_CALIBRATION_SECONDS)
        self._oom_retry = OomRetry(self._loaded)
        self._model = ModelWork(self._loaded, self._oom_retry)

    def reads_as(self, recipe: str) -> str:
        """The digest of all that shapes a pod by a recipe, except its tokens: the version of the format too."""
        recipes = self._loaded.recipes
        return "" if recipes.why_not(recipe) else recipes[recipe].reader

    def work(self, verb: str, asked: Values, stopped: Callable[[], bool]) -> Iterator[Values]:
        """What `verb` gives, or what went wrong; and that it is at its end."""
        try:
            yield from {"facts": self._facts, "load": self._load, "answer": self._answer, "read": self._read}[verb](
                asked, stopped
            )
        except _Damaged as damaged:
            yield {"damaged": damaged.args[0]}
        except (AppError, EngineError, StorageError, OSError) as error:
            yield failure_out(error)
        yield {"end": True}

    def _facts(self, _: Values, __: Callable[[], bool]) -> Iterator[Values]:
        loaded = self._loaded
        yield {
            "model": outline(loaded.runner.model),
            "heads": asdict(loaded.heads),
            "pace": loaded.pace.guess,
            "backend": loaded.runner.backend,
        }

    def _load(self, asked: Values, _: Callable[[], bool]) -> Iterator[Values]:
        for each in asked["pods"]:
            self._pod(asked["recipe"], each)
        yield {"loaded": True}

    def _answer(self, asked: Values, stopped: Callable[[], bool]) -> Iterator[Values]:
        with self._loaded.idle.question():
            pods = [self._pod(asked["recipe"], each) for each in asked["pods"]]
            heads = [(layer, head) for layer, head in asked["heads"]]
            params = SamplingParams(**asked["params"]) if asked["params"] else None
            with self._model.question(pods, asked["ids"], heads, params, asked["over"]) as question:
                if heads:
                    self._oom_retry.run(question.begin)
                    looked = self._oom_retry.run(question.attention)
                    yield {"attention": [array_out(each) for each in looked]}
                for step in self._oom_retry.begun(lambda: question.steps(stopped)):
                    yield {"token": [step.token_id, step.logprob]}

    def _pod(self, recipe: str, asked: Values) -> AnyPod:
        if "ids" in asked:
            return self._model.short(asked["ids"])
        section, blocks = section_in(asked["section"]), blocks_in(asked["blocks"])
        key = (section.identity, *(each.checksum for each in blocks))
        told = _Told(self._mark, {section.id: blocks})
        store = BlockStore(told, self._home, self._loaded.runner, self._loaded.staging)
        layout = self._loaded.recipes[recipe].layout

        def load() -> AnyPod | None:
            return store.load(section, blocks, layout)

        tokens = blocks[-1].stop_token
        pod = self._oom_retry.run(lambda: self._loaded.tiers.fetch(key, tokens, load))
        if pod is None:
            raise _Damaged(section.id)
        return self._model.passage(pod, *asked["passage"]) if asked["passage"] else pod

    def _read(self, asked: Values, stopped: Callable[[], bool]) -> Iterator[Values]:
        loaded, section = self._loaded, section_in(asked["section"])
        rows = {section.id: blocks_in(asked["blocks"])}
        twin = section_in(asked["twin"]) if asked["twin"] else None
        if twin is not None:
            rows[twin.id] = blocks_in(asked["twin_blocks"])
        told = _Told(self._mark, rows)
        store = BlockStore(told, self._home, loaded.runner, loaded.staging)
        # No question waits here for the end of a chunk.
        size = self._settings.chunk_tokens or chunk_tokens(loaded.runner.model.device)
        reader = SectionReader(told, store, loaded, self._oom_retry, lambda start: size)
        layout = loaded.recipes[asked["recipe"]].layout
        for tokens in reader.read(section, asked["ids"], layout, twin, stopped):
            yield from told.said()
            yield {"read": tokens}
        yield from told.said()
        # Answerers have pods by their contents, since numbers are those of one database.
        loaded.tiers.forget(section.id)
