"""The block store: every chunk that is read is a block on the disk before the next begins, verified when it is used."""

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Protocol

from engine.core.errors import PodMismatch
from engine.core.oom import translate_oom
from engine.core.pinned_staging import Staging
from engine.kvcache.blocks import scores as score_blocks
from engine.kvcache.blocks import states as state_blocks
from engine.kvcache.blocks.by_chunk import ChunkLoader
from engine.kvcache.blocks.by_layer import QuantizedLoader
from engine.kvcache.blocks.coded import CodedLoader
from engine.kvcache.blocks.load import Loader, Source, load
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import PodBlock, PodLoader, pieces
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.runtime.prefill.builder import Builder, builder_for
from engine.runtime.runner import Runner
from storage import (
    Block,
    BlockConflict,
    BlockDamaged,
    Home,
    NotStored,
    Section,
    StorageError,
    move_in,
    prefetch,
    read_block,
    remove,
    write_block,
)

log = logging.getLogger(__name__)

_FILES_AT_ONCE = 8
"""Written or removed: one alone waits for the disk most of the time."""
_STATES_AT, SCORES_AT = -2, -1
"""Positions of the blocks of states and of scores, in front of those that hold tokens."""


class SectionRows(Protocol):
    """Where the rows of sections are kept: the database, or whoever keeps it; as `Store` describes each verb."""

    def section(self, section_id: int, /) -> Section | None: ...
    def blocks(self, section_id: int, /) -> list[Block]: ...
    def add_block(self, section_id: int, block: Block, /, *behind: Block) -> list[str]: ...
    def replace_block(self, section_id: int, block: Block, /) -> list[str]: ...
    def finish_section(self, section_id: int, seconds: float, instead: Sequence[Block] = (), /) -> list[str]: ...
    def add_section_seconds(self, section_id: int, seconds: float, /) -> None: ...
    def drop_blocks(self, section_id: int, /, only_with: Collection[str] = ()) -> list[str]: ...


class BlockStore:
    """Blocks of sections, in files and rows. A section with a damaged or foreign block is forgotten and read again.

    Of a model with states those behind all that is read are a block of their own, which comes with every chunk in the
    place of the one before.

    While a section is read its blocks are chunks. Exact ones make way in `finish` for a compressed pod, or for one of
    which layers keep a window; those that were packed while reading stay.
    """

    def __init__(self, store: SectionRows, home: Home, runner: Runner, staging: Staging) -> None:
        self._store = store
        self._pods = home.pods
        self._runner = runner
        self._staging = staging

    def write(self, section: Section, block: PodBlock) -> None:
        """Put a block on the disk, a large one in pieces, then into the database, with the states behind it.

        Raises StorageFull, NotStored for a deleted document, and BlockConflict where a question dropped the section
        meanwhile because a block of it is damaged.
        """
        named = ((each, each.start, f"{each.start:08d}") for each in pieces(block))
        self.keep(section.id, self._write_files(section, chain(named, _named_states(block.states))))

    def keep(self, section_id: int, rows: Sequence[Block]) -> None:
        """Enter blocks whose files are written, or remove these. Raises NotStored and BlockConflict."""
        with self._dropping(rows):
            self._unlink(self._store.add_block(section_id, *rows))

    def write_scores(self, section: Section, scores: Scores) -> None:
        """Keep the scores so far, and forget the ones before. Raises StorageFull or NotStored."""
        self.keep_scores(
            section.id, self._write_file(section, score_blocks.to_block(scores), SCORES_AT, f"s{scores.done:08d}")
        )

    def keep_scores(self, section_id: int, row: Block) -> None:
        """Enter a block of scores whose file is written, or remove that. Raises NotStored."""
        with self._dropping([row]):
            self._unlink(self._store.replace_block(section_id, row))

    def scores(self, section: Section) -> Scores | None:
        """The scores so far; None where there are none, or where they are damaged and must be found again."""
        model = self._runner.model
        for block in self._store.blocks(section.id):
            if block.position == SCORES_AT:
                try:
                    found = self._verified(section, block)
                    return score_blocks.from_block(*found, model.shape, section.num_tokens, model.device)
                except (BlockDamaged, PodMismatch) as error:
                    log.warning("section %d is scored again: %s", section.id, error)
        return None

    def finish(
        self, section: Section, seconds: float, blocks: Iterable[PodBlock] = (), states: PodBlock | None = None
    ) -> None:
        """The section is ready, after the last `seconds`; the blocks of its pod, if any, and of the states behind it
        take its chunks' place.

        Raises StorageFull or NotStored.
        """
        named = ((block, place, f"l{place:03d}") for place, block in enumerate(blocks))
        self.end(section.id, seconds, self._write_files(section, chain(named, _named_states(states))))

    def end(self, section_id: int, seconds: float, rows: Sequence[Block]) -> None:
        """Enter the blocks of a pod whose files are written, or remove these. Raises NotStored and BlockConflict."""
        with self._dropping(rows):
            self._unlink(self._store.finish_section(section_id, seconds, rows))

    def expect(self, blocks: Sequence[Block]) -> None:
        """Get blocks moving that will be loaded in a moment."""
        prefetch(self._pods / block.file_name for block in blocks)

    def load(self, section: Section, blocks: Sequence[Block], layout: Layout) -> AnyPod | None:
        """Put verified blocks together, several at once; None if one is bad, or was replaced. Raises OutOfMemory."""
        with translate_oom(self._runner.model.device):
            return self._load(section, [block for block in blocks if block.position != SCORES_AT], layout)

    def _load(self, section: Section, blocks: Sequence[Block], layout: Layout) -> AnyPod | None:
        sources = [Source(each.num_bytes, partial(self._verified, section, each)) for each in _with_tokens(blocks)]
        try:
            pod = load(self._loader(section, blocks[-1].stop_token, layout), sources)
            model = self._runner.model
            if not model.shape.states:
                return pod
            found = self._verified(section, _of_states(blocks))
            return replace(pod, states=state_blocks.from_block(*found, model.shape, pod.num_tokens, model.device))
        except (BlockDamaged, PodMismatch) as error:
            self.drop(section, blocks, error)
            return None

    def _loader(self, section: Section, num_tokens: int, layout: Layout) -> Loader:
        """What takes the blocks of a section that is read so far."""
        model = self._runner.model
        facts = model.shape, num_tokens, model.device, self._staging
        if layout.recipe.precision.while_reading:
            return ChunkLoader(layout, model.shape, section.num_tokens, model.device, self._staging, num_tokens)
        if layout.basis:
            return CodedLoader(layout, *facts)
        if section.state == "ready" and not layout.recipe.exact:
            return QuantizedLoader(layout, *facts)
        return PodLoader(*facts)

    def adopt(self, section: Section, files: Sequence[tuple[Path, Block]], layout: Layout) -> None:
        """Take files that were written elsewhere for a section, which is read here unless they make up its pod.

        Raises NotStored and OutOfMemory.
        """
        rows: list[Block] = []
        try:
            with self._dropping(rows):
                for path, block in files:
                    rows.append(replace(block, file_name=self._new_name(section, "i")))
                    move_in(path, self._pods / rows[-1].file_name)
                self._unlink(self._store.finish_section(section.id, 0.0, rows))
        except (BlockConflict, FileNotFoundError) as error:
            log.warning("what came for section %d is not all of it: %s", section.id, error)
            return
        # As it is now: how blocks are put together depends on its state.
        section = self._store.section(section.id) or section
        try:
            self.load(section, rows, layout)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            self.drop(section, rows, error)

    def resume(self, section: Section, layout: Layout, twin: Section | None = None) -> Builder:
        """A builder that has everything that was stored of a section, or of its exact twin in another reading."""
        blocks = [block for block in self._store.blocks(section.id) if block.position != SCORES_AT]
        source = section
        if twin is not None and not blocks:
            source, blocks = twin, self._store.blocks(twin.id)
        builder = builder_for(self._runner, section.num_tokens, layout)
        try:
            for block in _with_tokens(blocks):
                builder.restore(*self._verified(source, block))
            if builder.num_read and self._runner.model.shape.states:
                builder.restore_states(*self._verified(source, _of_states(blocks)))
        except (BlockDamaged, PodMismatch) as error:
            self.drop(source, blocks, error)
            return builder_for(self._runner, section.num_tokens, layout)
        return builder

    def _write_files(self, section: Section, blocks: Iterable[tuple[PodBlock, int, str]]) -> list[Block]:
        """Write blocks with their positions and suffixes, several at once; their rows, in order.

        Where one cannot be written, the files of the others go.
        """
        rows: list[Block] = []
        writing: deque[Future[Block]] = deque()
        with ThreadPoolExecutor(_FILES_AT_ONCE, "writing") as pool:
            try:
                for each in blocks:
                    if len(writing) == _FILES_AT_ONCE:
                        rows.append(writing.popleft().result())
                    writing.append(pool.submit(self._write_file, section, *each))
                while writing:
                    rows.append(writing.popleft().result())
            except BaseException:
                wait(writing)
                rows += [each.result() for each in writing if each.exception() is None]
                self._unlink([row.file_name for row in rows])
                raise
        return rows

    def _write_file(self, section: Section, block: PodBlock, position: int, suffix: str) -> Block:
        """Write a block's file; returns the row for it."""
        name = self._new_name(section, suffix)
        meta = {**block.meta, "section": section.identity, "stop": block.stop}
        num_bytes, checksum = write_block(self._pods, name, meta, block.payload)
        return Block(
            position=position,
            start_token=block.start,
            stop_token=block.stop,
            file_name=name,
            num_bytes=num_bytes,
            checksum=checksum,
        )

    def _new_name(self, section: Section, suffix: str) -> str:
        """No two files ever have one name, so that a file is not unlinked in the place of one it was dropped for."""
        return f"{section.identity[:16]}-{section.id}-{suffix}-{token_hex(4)}.pod"

    @contextmanager
    def _dropping(self, rows: Sequence[Block]) -> Iterator[None]:
        """Files without their rows must not be left behind, as where the section was deleted a moment ago."""
        try:
            yield
        except StorageError:
            self._unlink([row.file_name for row in rows])
            raise

    def _unlink(self, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(_FILES_AT_ONCE, "removing") as pool:
            for each in [pool.submit(remove, self._pods / name) for name in names]:
                each.result()

    def _verified(
        self, section: Section, block: Block, buffer: memoryview | None = None, threads: int = 1
    ) -> tuple[Mapping[str, object], memoryview]:
        meta, payload = read_block(self._pods / block.file_name, block.checksum, buffer, threads)
        if meta.get("section") != section.identity or meta.get("start") != block.start_token:
            raise PodMismatch(f"{block.file_name} belongs to another pod")
        return meta, payload

    def drop(self, section: Section, blocks: Sequence[Block], damage: Exception) -> None:
        """Forget the blocks of a section, unless it was deleted or they were replaced meanwhile: then all is well."""
        try:
            names = self._store.drop_blocks(section.id, only_with=[block.file_name for block in blocks])
        except NotStored:
            names = []
        if not names:
            log.info("section %d was deleted or written anew: %s", section.id, damage)
            return
        log.warning("section %d is read again: %s", section.id, damage)
        self._unlink(names)


def _named_states(block: PodBlock | None) -> list[tuple[PodBlock, int, str]]:
    """A block of states, if there is one, as it is written."""
    return [] if block is None else [(block, _STATES_AT, "states")]


def _with_tokens(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.position >= 0]


def _of_states(blocks: Sequence[Block]) -> Block:
    """Raises PodMismatch where there is none."""
    found = next((block for block in blocks if block.position == _STATES_AT), None)
    if found is None:
        raise PodMismatch("the states behind the section are missing")
    return found
