"""The journal: every chunk that is read is a block on the disk before the next begins, and is verified when used."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.errors import PodMismatch
from engine.pod import Block as PodBlock
from engine.pod import Pod, PodLoader
from engine.prefill import PodBuilder
from engine.runner import Runner
from storage import Block, BlockDamaged, Home, NotStored, Section, Store, prefetch, read_block, write_block

log = logging.getLogger(__name__)


class Journal:
    """Blocks of sections, in files and rows. A section with a damaged or foreign block is forgotten and read again.

    `read_again` gets the id of a document whose finished memory turned out to be damaged.
    """

    def __init__(self, store: Store, home: Home, runner: Runner, read_again: Callable[[str], None]) -> None:
        self._store = store
        self._pods = home.pods
        self._runner = runner
        self._read_again = read_again

    def write(self, section: Section, block: PodBlock) -> None:
        """Put a block on the disk, then into the database. Raises StorageFull, and NotStored for a deleted document."""
        name = f"{section.identity[:16]}-{section.id}-{block.start:08d}.pod"
        meta = {**block.meta, "section": section.identity, "stop": block.stop}
        num_bytes, checksum = write_block(self._pods, name, meta, block.payload)
        row = Block(
            position=block.start,
            start_token=block.start,
            stop_token=block.stop,
            file_name=name,
            num_bytes=num_bytes,
            checksum=checksum,
        )
        try:
            self._store.add_block(section.id, row)
        except NotStored:
            # Its document was deleted a moment ago, and must not leave anything behind.
            (self._pods / name).unlink(missing_ok=True)
            raise

    def expect(self, blocks: Sequence[Block]) -> None:
        """Get blocks moving that will be loaded in a moment."""
        prefetch(self._pods / block.file_name for block in blocks)

    def load(self, section: Section, blocks: Sequence[Block]) -> Pod | None:
        """Put verified blocks together, on as many threads as there are cores (at most four); None if one is bad."""
        model = self._runner.model
        loader = PodLoader(model.shape, blocks[-1].stop_token, model.device)
        workers = min(4, os.cpu_count() or 1)

        def load_every(first: int) -> None:
            scratch = bytearray()
            for block in blocks[first::workers]:
                loader.add(*self._verified(section, block, scratch))

        try:
            with ThreadPoolExecutor(workers) as threads:
                list(threads.map(load_every, range(workers)))
            pod = loader.finish()
            pod.check()
        except (BlockDamaged, PodMismatch) as error:
            self._drop(section, error)
            return None
        return pod

    def resume(self, section: Section) -> PodBuilder:
        """A builder that has everything that was stored of a section."""
        builder = PodBuilder(self._runner, section.num_tokens)
        try:
            for block in self._store.blocks(section.id):
                builder.restore(*self._verified(section, block))
        except (BlockDamaged, PodMismatch) as error:
            self._drop(section, error)
            return PodBuilder(self._runner, section.num_tokens)
        return builder

    def _verified(
        self, section: Section, block: Block, scratch: bytearray | None = None
    ) -> tuple[Mapping[str, object], memoryview]:
        meta, payload = read_block(self._pods / block.file_name, block.checksum, scratch)
        if meta.get("section") != section.identity or meta.get("start") != block.start_token:
            raise PodMismatch(f"{block.file_name} belongs to another pod")
        return meta, payload

    def _drop(self, section: Section, damage: Exception) -> None:
        """Forget the blocks of a section; done already where the document was deleted meanwhile."""
        log.warning("section %d is read again: %s", section.id, damage)
        try:
            names = self._store.drop_blocks(section.id)
        except NotStored as gone:
            log.info("section %d was deleted: %s", section.id, gone)
            return
        for name in names:
            (self._pods / name).unlink(missing_ok=True)
        reading = self._store.reading(section.reading_id)
        if reading is not None and reading.state == "queued":
            self._read_again(reading.document_id)
