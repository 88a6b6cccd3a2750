"""The section reader: reads one section to its end; a GPU reads the next chunk while one is written."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from app.block_store import BlockStore, SectionRows
from app.oom_retry import OomRetry
from app.reader_model import Loaded
from engine.compression.compress import pack_pod, score
from engine.kvcache.blocks import by_layer, coded, states
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod, PodBlock, to_blocks
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.runtime.prefill.builder import Builder, reads_ahead, tapered
from storage import Section

Done = TypeVar("Done")


@dataclass(frozen=True)
class _Written:
    """A chunk on its way to the disk, and the seconds that it took to begin with it."""

    seconds: float
    writing: Future[PodBlock]
    tapered: bool
    """Shorter than chunks are, near the end: it says little of how fast reading is."""

    def settle(self) -> tuple[PodBlock, float]:
        """Wait until it is safe on the disk; and the seconds that it took altogether. Raises what writing raised."""
        start = time.perf_counter()
        block = self.writing.result()
        return block, self.seconds + time.perf_counter() - start


class SectionReader:
    """From token ids to a finished section. What is reported is safe on the disk."""

    def __init__(
        self,
        store: SectionRows,
        block_store: BlockStore,
        loaded: Loaded,
        oom_retry: OomRetry,
        chunk_tokens: Callable[[int], int],
    ) -> None:
        """`chunk_tokens`: of the next chunk, at each position of a section."""
        self._store = store
        self._block_store = block_store
        self._loaded = loaded
        self._relief = oom_retry
        self._chunk_tokens = chunk_tokens
        self.ahead = reads_ahead(loaded.runner.model.device)

    def read(
        self, section: Section, ids: Sequence[int], layout: Layout, twin: Section | None, stopped: Callable[[], bool]
    ) -> Iterator[int]:
        """The tokens read, after every piece of work; ends early where `stopped()`.

        `twin` is the same section as it was read exactly, which need not be read again: the section's seconds are then
        those of making it from that. Raises OutOfMemory,
        StorageFull, and NotStored for a deleted document.
        """
        began = time.perf_counter()
        builder = self._relief.run(partial(self._block_store.resume, section, layout, twin))
        resuming = time.perf_counter() - began
        yield from self._chunks(section, builder, ids, stopped)
        if builder.num_read < len(ids):
            return
        began = time.perf_counter() - resuming
        pod = builder.finish()
        blocks: Iterable[PodBlock] = ()
        if isinstance(pod, Pod) and layout.basis:
            blocks, last = list(coded.to_blocks(pod, layout)), pod.states
            # Answers are given from what a restart finds, too, which takes the room of what was read.
            del builder, pod
            back = self._relief.run(partial(coded.restored, blocks, layout, self._loaded.runner.model))
            pod = replace(back, states=last)
        elif isinstance(pod, Pod) and not layout.recipe.exact:
            scores = self._block_store.scores(section)
            for each in self._scores(section, partial(score, self._loaded.runner, ids, pod, layout), scores):
                if self._stopped(stopped):
                    self._store.add_section_seconds(section.id, time.perf_counter() - began)
                    return
                scores = each
                yield len(ids)
            pod = self._relief.run(partial(pack_pod, pod, layout, scores))
            blocks = by_layer.to_blocks(pod)
        elif not isinstance(pod, QuantizedPod) and self._loaded.runner.model.shape.windows:
            # Chunks hold all tokens, so that reading can go on behind each of them; what is done needs its window.
            blocks = to_blocks(pod)
        behind = states.leaving(pod.states, len(ids))() if blocks and pod.states else None
        self._block_store.finish(section, time.perf_counter() - began, blocks, behind)
        self._loaded.tiers.put(section.id, pod)

    def _chunks(
        self, section: Section, builder: Builder, ids: Sequence[int], stopped: Callable[[], bool]
    ) -> Iterator[int]:
        most = sys.maxsize
        with ThreadPoolExecutor(1, "writing") as writer:
            under_way: _Written | None = None
            while builder.num_read < len(ids) and not self._stopped(stopped):
                start = time.perf_counter()
                size = min(most, self._chunk_tokens(builder.num_read))
                wanted = tapered(size, len(ids) - builder.num_read) if self.ahead else size
                arrived, fitted = self._on_device(self._relief.begin, builder, ids, wanted)
                if fitted < wanted:
                    most = size = fitted
                seconds = time.perf_counter() - start
                if under_way is not None:
                    yield self._settle(section, under_way, size)
                under_way = _Written(seconds, writer.submit(self._write, section, arrived), wanted < size)
                if not self.ahead:
                    yield self._settle(section, under_way, size)
                    under_way = None
            if under_way is not None:
                yield self._settle(section, under_way, size)

    def _stopped(self, stopped: Callable[[], bool]) -> bool:
        """Whether to go no further, once no question is at work."""
        self._loaded.idle.make_way(stopped)
        return stopped()

    def _scores(
        self, section: Section, begin: Callable[[Scores | None], Iterator[Scores]], known: Scores | None
    ) -> Iterator[Scores]:
        """The scores so far, which are written while the next piece of work is done; at the end all of them are."""
        work = self._relief.resumed(begin, known)
        with ThreadPoolExecutor(1, "writing") as writer:
            written: Future[None] | None = None
            while (scores := self._on_device(next, work, None)) is not None:
                if written is not None:
                    written.result()
                written = writer.submit(self._block_store.write_scores, section, scores)
                if not self.ahead:
                    written.result()
                yield scores
            if written is not None:
                written.result()

    def _on_device(self, work: Callable[..., Done], *arguments: Any) -> Done:
        """What the work gives, in the thread where attention has its plans."""
        return self._loaded.prefill.submit(work, *arguments).result() if self.ahead else work(*arguments)

    def _write(self, section: Section, arrived: Callable[[], PodBlock]) -> PodBlock:
        block = arrived()
        self._block_store.write(section, block)
        return block

    def _settle(self, section: Section, written: _Written, size: int) -> int:
        block, seconds = written.settle()
        self._store.add_section_seconds(section.id, seconds)
        if not written.tapered and (block.stop < section.num_tokens or block.stop - block.start >= size):
            # The last chunk of a section is shorter and says little of the next one.
            self._loaded.pace.note(block.start, block.stop, seconds)
        return block.stop
