"""Memory: turns the text of a document into pods, section by section, and brings them back."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from app.block_store import BlockStore
from app.errors import Busy, DiskFull, DocumentNotFound, EmptyDocument
from app.events import Forecast, Progress
from app.oom_retry import OomRetry
from app.reader_model import Loaded
from app.recipe_registry import RecipeRegistry
from app.section_reader import SectionReader
from app.sections import SectionText, cut, restore, tokenize
from engine.core.errors import PodMismatch
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.runtime.prefill import builder
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
    pack_token_ids,
    unpack_token_ids,
)

log = logging.getLogger(__name__)

DISK_SPARE_BYTES = 256 << 20
"""Disk space that reading leaves free."""
TO_READ: tuple[ReadingState, ...] = ("queued", "reading")
"""States of a reading that goes on by itself, also after a restart."""


@dataclass(frozen=True)
class Recalled:
    """A section brought back as far as it was read: its text and its pod."""

    section: Section
    text: SectionText
    pod: AnyPod

    @property
    def complete(self) -> bool:
        """Whether the whole section was read."""
        return self.pod.num_tokens == self.section.num_tokens


class Memory:
    """Pods of one reader. Reading journals every chunk; recalling verifies every byte.

    `read_again` gets the id of a document whose finished memory turned out to be damaged.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        loaded: Loaded,
        chunk_tokens: int,
        read_again: Callable[[str], None],
    ) -> None:
        self._store = store
        self._home = home
        self._loaded = loaded
        self.oom_retry = OomRetry(loaded)
        self._texts: dict[int, SectionText] = {}
        """By section, about as long as their pods are kept."""
        self._texts_lock = Lock()
        self._block_store = BlockStore(store, home, loaded.runner, loaded.staging, read_again)
        chunk_tokens = chunk_tokens or builder.chunk_tokens(loaded.runner.model.device)
        self._reader = SectionReader(store, self._block_store, loaded, self.oom_retry, chunk_tokens)

    @property
    def recipes(self) -> RecipeRegistry:
        """What each recipe means for the model at hand."""
        return self._loaded.recipes

    def plan(self, document_id: str, recipe: str) -> Reading:
        """Cut a parsed document into sections, once; the stored plan is used ever after, and by every recipe.

        Raises EmptyDocument where no page has text.
        """
        known = self.find(document_id, recipe)
        if known is not None:
            return known
        reader, name = self.recipes[recipe].reader, self._loaded.runner.model.name
        kept = (self._store.sections(each.id) for each in reversed(self.readings(document_id)))
        # One that is deleted at this moment has none.
        if sections := next(filter(None, kept), []):
            rows = [self._row(reader, unpack_token_ids(each.token_ids), each.position, each) for each in sections]
            return self._store.start_reading(document_id, reader, name, recipe, rows)
        tokenizer, head = self._loaded.runner.model.tokenizer, self._loaded.prompts.head()
        pages = (tokenize(page.number, page.text, tokenizer) for page in self._store.pages(document_id))
        texts = cut(pages, head, self._loaded.section_tokens)
        if not texts:
            raise EmptyDocument(
                "No page of this document has text.",
                "If it is a scan, run it through OCR first: ocrmypdf in.pdf out.pdf",
            )
        rows = [self._row(reader, text.ids, position, text) for position, text in enumerate(texts)]
        return self._store.start_reading(document_id, reader, name, recipe, rows)

    def find(self, document_id: str, recipe: str) -> Reading | None:
        """The reading of a document by this model and a recipe, if it is planned."""
        return self._store.find_reading(document_id, self.recipes[recipe].reader)

    def readings(self, document_id: str) -> list[Reading]:
        """Those of this model, by whichever recipe, oldest first."""
        found = self._store.readings(document_id)
        return [each for each in found if not self.recipes.why_not(each.recipe) and self._is_mine(each)]

    def is_whole_and_exact(self, reading: Reading) -> bool:
        """Whether any recipe can be made from this reading without the text."""
        return reading.state == "ready" and self.recipes[reading.recipe].layout.recipe.exact

    def num_bytes(self, reading: Reading, recipe: str) -> int:
        """About how many bytes the sections of a reading take, kept by some recipe."""
        sections = self._store.read_so_far(reading.id)
        return sum(self.recipes.num_bytes(recipe, each.num_tokens) for each in sections)

    def tokens_read(self, reading: Reading) -> int:
        """How many tokens of it can be asked."""
        return sum(each.tokens_read for each in self._store.read_so_far(reading.id))

    def _is_mine(self, reading: Reading) -> bool:
        return reading.reader == self.recipes[reading.recipe].reader

    def forecast(self, reading: Reading) -> Forecast:
        """What reading will cost."""
        states = [state for _, state in self._store.page_states(reading.document_id)]
        return Forecast(
            pages=len(states),
            pages_without_text=sum(state != "ok" for state in states),
            tokens=reading.num_tokens,
            sections=len(self._store.read_so_far(reading.id)),
            seconds=self.seconds(reading.document_id, reading.recipe, reading.num_tokens),
            disk_bytes=self._disk_bytes(reading),
            free_disk_bytes=self._home.free_bytes(),
        )

    def seconds(self, document_id: str, recipe: str, num_tokens: int) -> float:
        """About how long a recipe takes: from the exact memory, where that is whole, or else from the text."""
        passes = self.recipes[recipe].passes + (1.0 if self.needs_text(document_id, recipe) else 0.0)
        return num_tokens * passes / self._loaded.tokens_per_second

    def needs_text(self, document_id: str, recipe: str) -> bool:
        """Whether the text has to be read for a recipe, because there is no whole exact memory to make it from."""
        parts = self.recipes[recipe].layout.recipe
        exact = None if parts.exact or parts.while_reading else self.find(document_id, "exact")
        return exact is None or exact.state != "ready"

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
            with self._home.lock(f"reading-{reading.id}"):
                missing = self._disk_bytes(reading) - reading.num_bytes
                if missing + DISK_SPARE_BYTES > self._home.free_bytes():
                    raise DiskFull(missing + DISK_SPARE_BYTES, self._home.free_bytes())
                # Unless somebody paused or cancelled it meanwhile, which then stands.
                if self._store.set_reading_state(reading.id, "reading", only_from=TO_READ):
                    yield from self._read(reading, ended)
        except (NotStored, DocumentNotFound) as error:
            log.info("reading %d ended, because its document was deleted: %s", reading.id, error)
        except HomeBusy as error:
            raise Busy(
                "Another DocPod process is reading this document.", "It can be asked here as soon as that one is done."
            ) from error
        except StorageFull as error:
            raise DiskFull(error.needed_bytes, error.free_bytes) from error

    def expect(self, sections: Sequence[Section]) -> None:
        """Get the blocks of sections moving that will be recalled in a moment."""
        kept = set().union(*self._loaded.tiers.keys)
        missing = [section.id for section in sections if section.id not in kept]
        self._block_store.expect([block for section_id in missing for block in self._store.blocks(section_id)])

    def recall(self, section: Section) -> Recalled | None:
        """A section as far as it was read, from the cache or the disk; None where nothing of its pages was read.

        A section with a damaged block is dropped and counts as not read.
        """
        blocks = self._store.blocks(section.id)
        num_tokens = blocks[-1].stop_token if blocks else 0
        # After its blocks: they may have been replaced since the caller saw it.
        current = self._store.section(section.id)
        if current is None or num_tokens <= len(self._loaded.prompts.head()):
            return None
        section = current
        tiers, layout = self._loaded.tiers, self._layout(section.reading_id)
        with ThreadPoolExecutor(1) as beside:
            # The words take about as long as the pod, and other parts of the machine.
            text = beside.submit(self._kept_text, section, num_tokens)
            pod = self.oom_retry.run(
                lambda: tiers.fetch(section.id, num_tokens, lambda: self._block_store.load(section, blocks, layout))
            )
            if pod is not None:
                return Recalled(section, text.result(), pod)
        # Blocks that were replaced while they were loaded are no damage.
        return None if self._store.blocks(section.id) == blocks else self.recall(section)

    def coverage(self, reading: Reading) -> str:
        """What part of the document is read: "pages 1-212 of 640"; empty when that is all of it."""
        sections = self._store.read_so_far(reading.id)
        if all(each.tokens_read == each.num_tokens for each in sections):
            return ""
        ranges: list[list[int]] = []
        for each in sections:
            if not each.tokens_read:
                continue
            last = max(each.first_page, each.last_page_read)
            if ranges and each.first_page <= ranges[-1][1] + 1:
                ranges[-1][1] = last
            else:
                ranges.append([each.first_page, last])
        return f"pages {', '.join(f'{first}-{last}' for first, last in ranges)} of {sections[-1].last_page}"

    def _text(self, section: Section, num_tokens: int) -> SectionText:
        """The section's first tokens, from its pages again. Raises PodMismatch where they are not the stored ids."""
        reading = self._store.reading(section.reading_id)
        if reading is None:
            raise DocumentNotFound("This document was deleted.", "Choose another one.")
        numbers = range(section.first_page, section.last_page + 1)
        tokenizer = self._loaded.runner.model.tokenizer
        pages = self._store.pages(reading.document_id, numbers)
        tokens = [tokenize(page.number, page.text, tokenizer) for page in pages]
        text = restore(section.start_char, num_tokens, tokens, self._loaded.prompts.head())
        if text.ids != unpack_token_ids(section.token_ids)[:num_tokens]:
            raise PodMismatch(f"the text of section {section.position} no longer gives the tokens that were read")
        return text

    def _kept_text(self, section: Section, num_tokens: int) -> SectionText:
        with self._texts_lock:
            known = self._texts.get(section.id)
        if known is None or len(known.ids) != num_tokens:
            known = self._text(section, num_tokens)
            self._keep_text(section, known)
        return known

    def _keep_text(self, section: Section, text: SectionText) -> None:
        kept = set().union(*self._loaded.tiers.keys)
        with self._texts_lock:
            self._texts = {key: each for key, each in self._texts.items() if key in kept} | {section.id: text}

    def forget(self, reading_id: int) -> None:
        """Drop the cached pods of a reading, and the words of all."""
        tokenize.cache_clear()
        for section in self._store.sections(reading_id):
            self._loaded.tiers.forget(section.id)
            with self._texts_lock:
                self._texts.pop(section.id, None)

    def _layout(self, reading_id: int) -> Layout:
        """How the pods of a reading are compressed."""
        reading = self._store.reading(reading_id)
        if reading is None:
            raise DocumentNotFound("This memory was replaced or deleted.", "Ask again, or choose another document.")
        return self.recipes[reading.recipe].layout

    def _read(self, reading: Reading, stopped: Callable[[], bool]) -> Iterator[Progress]:
        layout = self.recipes[reading.recipe].layout
        # EarlyExit up anew each time: a question may find meanwhile that a section which was ready is damaged.
        while not stopped() and (waiting := self._waiting(reading)):
            section = waiting[0]
            done = reading.num_tokens - sum(each.num_tokens for each in waiting)
            text = self._text(section, section.num_tokens)
            twin = self._twin(reading, section)
            if twin is not None:
                yield self._progress(reading, text, done, 1, 0.0)
            try:
                for read in self._reader.read(section, text.ids, layout, twin, stopped):
                    yield self._progress(reading, text, done, read, self._loaded.tokens_per_second)
                self._keep_text(section, text)
            except BlockConflict as dropped:
                log.warning("section %d is begun anew: %s", section.id, dropped)

    def _waiting(self, reading: Reading) -> list[Section]:
        return [each for each in self._store.sections(reading.id) if each.state != "ready"]

    def _disk_bytes(self, reading: Reading) -> int:
        """Most bytes that the reading takes on the disk; what is packed once it is read is exact until then."""
        sections = [each.num_tokens for each in self._store.read_so_far(reading.id)]
        recipe = self.recipes[reading.recipe].layout.recipe
        longest = max(sections, default=0)
        shape = self._loaded.runner.model.shape
        kept = recipe.precision.while_reading or (recipe.exact and not shape.windows)
        while_reading = 0 if kept else longest * shape.token_bytes
        return sum(self.recipes.num_bytes(reading.recipe, tokens) for tokens in sections) + while_reading

    def _twin(self, reading: Reading, section: Section) -> Section | None:
        """The same section as this model read it exactly, from whose memory any recipe can be made."""
        exact = self.find(reading.document_id, "exact")
        if exact is None or exact.id == reading.id or self.recipes[reading.recipe].layout.recipe.while_reading:
            return None
        twin = self._store.sections(exact.id)[section.position]
        return twin if twin.state == "ready" and twin.token_ids == section.token_ids else None

    def _row(self, reader: str, ids: list[int], position: int, place: SectionText | Section) -> Section:
        return Section(
            position=position,
            first_page=place.first_page,
            last_page=place.last_page,
            start_char=place.start_char,
            end_char=place.end_char,
            token_ids=pack_token_ids(ids),
            num_tokens=len(ids),
            identity=hashlib.sha256(f"{reader} {ids}".encode()).hexdigest(),
        )

    def _progress(self, reading: Reading, text: SectionText, done: int, read: int, speed: float) -> Progress:
        located = text.locate(read - 1)
        states = self._store.page_states(reading.document_id)
        return Progress(
            document_id=reading.document_id,
            stage="reading",
            done=done + read,
            total=reading.num_tokens,
            pages_done=located[0] if located else text.first_page,
            pages_total=len(states),
            tokens_per_second=speed,
            seconds_left=(reading.num_tokens - done - read) / speed if speed else None,
        )
