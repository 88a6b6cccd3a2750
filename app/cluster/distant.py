"""The distant model: what stands in a page for the model, its pods and its reader, when replicas do the work."""

import logging
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from app.block_store import SCORES_AT, BlockStore
from app.cluster.line import AGAIN, Line, ReplicasAway
from app.cluster.replica import KEY
from app.cluster.wire import Values, array_in, blocks_in, blocks_out, section_out
from app.errors import ModelUnavailable, NotRead
from app.idle import Idle
from app.model_work import ModelWork, OpenQuestion
from app.oom_retry import OomRetry
from app.pace import Pace
from app.pod_engine import PodEngine, wired
from app.prompts import Prompts
from app.reader_model import Loaded
from app.recipe_registry import RecipeRegistry
from app.section_reader import SectionReader
from app.settings import Settings
from engine.core.errors import PodMismatch
from engine.core.pinned_staging import Staging
from engine.core.sampling import SamplingParams
from engine.evidence.heads import EvidenceHeads
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.offload.tiers import tiered_cache
from engine.runtime.context import Head
from engine.runtime.generate import Step
from engine.runtime.outline import from_outline
from engine.runtime.runner import Runner
from storage import Block, Home, NotStored, Section, Store

log = logging.getLogger(__name__)


class DistantModel(Loaded):
    """Knows of the model all but its weights."""

    def __init__(self, choice: str, settings: Settings, folder: Path, _: Callable[[str], None], idle: Idle) -> None:
        """As `Load`. Raises ModelUnavailable."""
        self.line = Line(settings.cluster, choice, key_of(settings.home))
        try:
            facts = self.line.facts()
        except ReplicasAway as error:
            raise ModelUnavailable(error.message, error.hint) from error
        model = from_outline(facts["model"])
        self.runner = Runner(model)
        self.runner.backend = f"replicas at {settings.cluster}: {facts['backend']}"
        self.idle = idle
        self.prompts = Prompts(model.tokenizer)
        heads = facts["heads"]
        pairs = tuple((layer, head) for layer, head in heads["heads"])
        self.heads = EvidenceHeads(**{**heads, "heads": pairs, "mass": tuple(heads["mass"])})
        self.recipes = RecipeRegistry(model, self.prompts, folder, settings.recipe or "exact")
        self.pace = Pace(*facts["pace"])
        self.staging = Staging(model.device)
        self._weight_bytes = 0
        self.tiers = tiered_cache(model.device)
        """Of references: what they take is next to nothing."""
        self.limit_memory(settings)


def key_of(home: Path, make: bool = False) -> str:
    """What pages of this home show to replicas; with `make`, a new one where there is none. Raises ModelUnavailable."""
    path = home / KEY
    if make and not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    if not path.exists():
        raise ModelUnavailable(
            f"{path} is missing.", "It is made by docpod cluster up; on another machine, copy it from there."
        )
    return path.read_text().strip()


@dataclass(frozen=True)
class DistantPod:
    """A pod by its name: replicas have it, or fetch it."""

    num_tokens: int
    document_id: str
    recipe: str
    asked: Mapping[str, Any]
    """As a replica takes it."""
    section: Section | None = None
    blocks: tuple[Block, ...] = ()


class DistantBlocks(BlockStore):
    """Blocks that replicas write and load; here they are rows."""

    def __init__(self, store: Store, home: Home, loaded: DistantModel) -> None:
        super().__init__(store, home, loaded.runner, loaded.staging)
        self._readings, self._loaded = store, loaded

    def expect(self, blocks: Sequence[Block]) -> None:
        """Nothing: they are fetched where they are needed."""

    def load(self, section: Section, blocks: Sequence[Block], layout: Layout) -> AnyPod | None:
        """As BlockStore: a replica has verified every byte. Raises ReplicasAway, too."""
        kept = tuple(each for each in blocks if each.position != SCORES_AT)
        reading = self._readings.reading(section.reading_id)
        if reading is None:
            return None
        asked = {"section": section_out(section), "blocks": blocks_out(kept), "passage": None}
        pod = DistantPod(kept[-1].stop_token, reading.document_id, reading.recipe, asked, section, kept)
        with closing(
            self._loaded.line.events("answer/load", pod.document_id, lambda: _asked(self._loaded, [pod]))
        ) as events:
            for event in events:
                if "damaged" in event:
                    self.drop(section, kept, PodMismatch("a replica found it damaged"))
                    return None
        return cast(AnyPod, pod)


class DistantWork(ModelWork):
    """The model of the replicas, as answers ask it."""

    def __init__(self, loaded: DistantModel, blocks: BlockStore) -> None:
        self._distant, self._blocks = loaded, blocks

    def question(
        self,
        pods: Sequence[AnyPod],
        ids: Sequence[int],
        heads: Sequence[Head] = (),
        params: SamplingParams | None = None,
        reader: str = "",
    ) -> OpenQuestion:
        """As ModelWork; what is wrong with a pod is raised as soon as the replica says so."""
        found = cast(Sequence[DistantPod], pods)
        return DistantQuestion(self._distant, self._blocks, found, list(ids), list(heads), params, reader)

    def short(self, ids: Sequence[int]) -> AnyPod:
        """As ModelWork."""
        return cast(AnyPod, DistantPod(len(ids), "", "exact", {"ids": list(ids)}))

    def passage(self, pod: AnyPod, head_tokens: int, first: int, last: int) -> AnyPod:
        """As ModelWork."""
        whole = cast(DistantPod, pod)
        part = replace(whole, num_tokens=last + 1, asked={**whole.asked, "passage": [head_tokens, first, last]})
        return cast(AnyPod, part)


class DistantQuestion(OpenQuestion):
    """A question that a replica is at work on. Where that one is lost another begins anew, and what was said by then is
    said once."""

    def __init__(
        self,
        loaded: DistantModel,
        blocks: BlockStore,
        pods: Sequence[DistantPod],
        ids: list[int],
        heads: Sequence[Head],
        params: SamplingParams | None,
        reader: str,
    ) -> None:
        self._loaded, self._blocks, self._pods = loaded, blocks, pods
        self._ids, self._heads, self._params, self._reader = ids, heads, params, reader
        self._events = self._from_replicas()

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def begin(self) -> None:
        """Nothing: the replica begins when something is wanted of it."""

    def attention(self) -> list[NDArray[np.float32]]:
        """As Question. Raises NotRead for a pod that turned out to be damaged."""
        return next([array_in(each) for each in event["attention"]] for event in self._events if "attention" in event)

    def steps(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """As Question. Raises NotRead for a pod that turned out to be damaged."""
        said: list[int] = []
        place = 0
        for event in self._events:
            if event == AGAIN:
                place = 0
            elif "token" in event:
                token, logprob = event["token"]
                if place == len(said):
                    said.append(token)
                    yield Step(token, logprob)
                    if stopped():
                        return
                elif token != said[place]:
                    log.warning("another replica would have said something else: it goes on behind what was said")
                    yield from self._behind(said, stopped)
                    return
                place += 1

    def _behind(self, said: list[int], stopped: Callable[[], bool]) -> Iterator[Step]:
        assert self._params is not None
        self._events.close()
        self._ids, self._heads = [*self._ids, *said], ()
        self._params = replace(self._params, max_tokens=self._params.max_tokens - len(said))
        self._events = self._from_replicas()
        yield from self.steps(stopped)

    def _from_replicas(self) -> Generator[Values, None, None]:
        asked = {
            **_asked(self._loaded, self._pods),
            "ids": self._ids,
            "heads": self._heads,
            "params": asdict(self._params) if self._params else None,
            "over": self._reader,
        }
        with closing(self._loaded.line.events("answer/answer", self._pods[0].document_id, lambda: asked)) as events:
            for event in events:
                if "damaged" in event:
                    self._drop(event["damaged"])
                yield event

    def _drop(self, section_id: int) -> None:
        for each in self._pods:
            if each.section is not None and each.section.id == section_id:
                self._loaded.tiers.forget(section_id)
                self._blocks.drop(each.section, each.blocks, PodMismatch("a replica found it damaged"))
        raise NotRead("A part of this document is read again.", "Ask again as soon as that is done.")


class DistantReader(SectionReader):
    """Has sections read by replicas; what is reported is safe in the store and in the database."""

    def __init__(self, store: Store, blocks: BlockStore, loaded: DistantModel) -> None:
        self._rows, self._blocks, self._distant = store, blocks, loaded

    def read(
        self, section: Section, ids: Sequence[int], layout: Layout, twin: Section | None, stopped: Callable[[], bool]
    ) -> Iterator[int]:
        """As SectionReader; where a replica is lost another one goes on from the last chunk. Raises ReplicasAway."""
        reading = self._rows.reading(section.reading_id)
        if reading is None:
            raise NotStored(f"section {section.id} is gone")
        recipe, start, stop = reading.recipe, 0, 0

        def asked() -> Values:
            return {
                "recipe": recipe,
                "reads_as": self._distant.recipes[recipe].reader,
                "section": section_out(section),
                "blocks": blocks_out(self._rows.blocks(section.id)),
                "twin": section_out(twin) if twin else None,
                "twin_blocks": blocks_out(self._rows.blocks(twin.id)) if twin else [],
                "ids": list(ids),
            }

        with closing(self._distant.line.events("read/read", section.identity, asked)) as events:
            for event in events:
                match event:
                    case {"kept": rows}:
                        kept = blocks_in(rows)
                        self._blocks.keep(section.id, kept)
                        start, stop = kept[0].start_token, max(each.stop_token for each in kept)
                    case {"scores": [row]}:
                        self._blocks.keep_scores(section.id, *blocks_in([row]))
                    case {"seconds": seconds}:
                        self._rows.add_section_seconds(section.id, seconds)
                        if start < stop:
                            self._distant.pace.note(start, stop, seconds)
                        start = stop
                    case {"damaged": damaged}:
                        each = section if damaged == section.id else twin
                        assert each is not None
                        self._blocks.drop(each, self._rows.blocks(each.id), PodMismatch("a replica found it damaged"))
                    case {"ended": seconds, "instead": rows}:
                        self._blocks.end(section.id, seconds, blocks_in(rows))
                        self._distant.tiers.forget(section.id)
                        return
                    case {"read": tokens}:
                        yield tokens
                if stopped():
                    return


def _asked(loaded: DistantModel, pods: Sequence[DistantPod]) -> Values:
    recipe = pods[0].recipe
    return {"recipe": recipe, "reads_as": loaded.recipes[recipe].reader, "pods": [dict(each.asked) for each in pods]}


def equip_distant(store: Store, home: Home, loaded: Loaded, settings: Settings) -> PodEngine:
    """As `equip`, around a distant model."""
    assert isinstance(loaded, DistantModel)
    blocks = DistantBlocks(store, home, loaded)
    reader = DistantReader(store, blocks, loaded)
    return wired(store, home, loaded, settings, OomRetry(loaded), blocks, reader, DistantWork(loaded, blocks))
