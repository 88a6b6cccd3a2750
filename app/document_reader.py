"""The document reader: reads what is not read of a document yet, section by section, one process at a time."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress

from app.block_store import BlockStore
from app.errors import Busy, DiskFull, DocumentNotFound
from app.events import Progress
from app.planning import Planner
from app.portable import LIST, MANIFEST
from app.reader_model import Loaded
from app.recall import Recaller
from app.section_reader import SectionReader
from app.sections import SectionText
from storage import (
    BlockConflict,
    Home,
    HomeBusy,
    NotStored,
    Reading,
    ReadingState,
    Section,
    StorageFull,
    Store,
    read_bytes,
)

log = logging.getLogger(__name__)

DISK_SPARE_BYTES = 256 << 20
"""Disk space that reading leaves free."""
TO_READ: tuple[ReadingState, ...] = ("queued", "reading")
"""States of a reading that goes on by itself, also after a restart."""


class DocumentReader:
    """Reads with one model; every chunk that is reported is safe on the disk."""

    def __init__(
        self,
        store: Store,
        home: Home,
        loaded: Loaded,
        planner: Planner,
        recaller: Recaller,
        section_reader: SectionReader,
        block_store: BlockStore,
    ) -> None:
        self._store = store
        self._home = home
        self._loaded = loaded
        self._planner = planner
        self._recaller = recaller
        self._section_reader = section_reader
        self._block_store = block_store

    def read(self, reading: Reading, stopped: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Read what is not read yet, if it is queued; progress after every chunk, and a clean end where `stopped()`, or
        where any process paused or cancelled it.

        Raises Busy where another process reads the same document, DiskFull before or while the disk fills up, and
        OutOfMemory where even small pieces of a chunk have no room.
        """
        if reading.state not in TO_READ:
            return

        def ended() -> bool:
            current = self._store.reading(reading.id)
            return stopped() or current is None or current.state != "reading"

        try:
            with self._store.lock(f"reading-{reading.id}"):
                needed = (
                    self._planner.disk_bytes(reading, self._store.read_so_far(reading.id))
                    - reading.num_bytes
                    + DISK_SPARE_BYTES
                )
                if needed > self._home.free_bytes():
                    raise DiskFull(needed, self._home.free_bytes())
                # Unless somebody paused or cancelled it meanwhile, which then stands.
                if self._store.set_reading_state(reading.id, "reading", only_from=TO_READ):
                    yield from self._sections(reading, ended)
        except (NotStored, DocumentNotFound) as error:
            log.info("reading %d ended, because its document was deleted: %s", reading.id, error)
        except HomeBusy as error:
            raise Busy(
                "Another DocPod process is reading this document.", "It can be asked here as soon as that one is done."
            ) from error
        except StorageFull as error:
            raise DiskFull(error.needed_bytes, error.free_bytes) from error

    def is_whole(self, reading: Reading, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Whether every section of a reading comes back from the disk; what is damaged of it is to be read again."""
        layout = self._loaded.recipes[reading.recipe].layout
        for section in self._store.sections(reading.id):
            self._loaded.idle.make_way(stopped)
            blocks = self._store.blocks(section.id)
            if stopped() or section.state != "ready" or self._block_store.load(section, blocks, layout) is None:
                return False
        return True

    def adopt(self, reading: Reading) -> None:
        """Take over memory that came with the document, of sections that are the same here; the others are to be read.

        Raises NotStored and OutOfMemory.
        """
        folder = self._home.imports / reading.document_id
        with suppress(HomeBusy), self._store.lock(f"reading-{reading.id}"):
            if not folder.exists():
                return
            blocks = MANIFEST.validate_json(read_bytes(folder / LIST)).blocks
            for section in self._waiting(reading):
                own = [
                    (folder / f"pods-{number}", each.block)
                    for number, each in enumerate(blocks)
                    if each.section == section.identity
                ]
                if own:
                    self._block_store.adopt(section, own, self._loaded.recipes[reading.recipe].layout)
            shutil.rmtree(folder)

    def _sections(self, reading: Reading, stopped: Callable[[], bool]) -> Iterator[Progress]:
        layout = self._loaded.recipes[reading.recipe].layout
        # Looked up anew each time: a question may find meanwhile that a section which was ready is damaged.
        while not stopped() and (waiting := self._waiting(reading)):
            section, *later = waiting
            done = reading.num_tokens - sum(each.num_tokens for each in waiting)
            text = self._recaller.text(section, section.num_tokens)
            twin = self._twin(reading, section)
            if twin is not None:
                yield self._progress(reading, text, done, 1)
            try:
                for read in self._section_reader.read(section, text.ids, layout, twin, stopped):
                    left = self._planner.seconds_left(reading, section, read, later)
                    yield self._progress(reading, text, done, read, self._loaded.pace.tokens_per_second, left)
                self._recaller.keep_text(section, text)
            except BlockConflict as dropped:
                log.warning("section %d is begun anew: %s", section.id, dropped)

    def _waiting(self, reading: Reading) -> list[Section]:
        return [each for each in self._store.sections(reading.id) if each.state != "ready"]

    def _twin(self, reading: Reading, section: Section) -> Section | None:
        """The same section as this model read it exactly, from whose pod any recipe can be made."""
        exact = self._planner.find(reading.document_id, "exact")
        precision = self._loaded.recipes[reading.recipe].layout.recipe.precision
        if exact is None or exact.id == reading.id or precision.while_reading:
            return None
        twin = self._store.sections(exact.id)[section.position]
        return twin if twin.state == "ready" and twin.token_ids == section.token_ids else None

    def _progress(
        self,
        reading: Reading,
        text: SectionText,
        done: int,
        read: int,
        speed: float = 0.0,
        seconds_left: float | None = None,
    ) -> Progress:
        located = text.locate(read - 1)
        return Progress(
            document_id=reading.document_id,
            stage="reading",
            done=done + read,
            total=reading.num_tokens,
            pages_done=located[0] if located else text.first_page,
            pages_total=len(self._store.page_states(reading.document_id)),
            tokens_per_second=speed,
            seconds_left=seconds_left,
        )
