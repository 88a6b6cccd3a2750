"""Memory: turns the text of a document into pods, section by section, and brings them back."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from app.errors import Busy, DiskFull, DocumentNotFound, EmptyDocument, OutOfMemory
from app.events import Forecast, Progress
from app.journal import Journal
from app.reader_model import Loaded
from app.sections import SectionText, cut, restore, tokenize
from engine import prefill
from engine.compress import pack_pod, score
from engine.errors import MemoryExhausted, PodMismatch
from engine.layout import expected_bytes
from engine.packed_pod import AnyPod
from storage import (
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
        cache_bytes: int,
        read_again: Callable[[str], None],
    ) -> None:
        self._store = store
        self._home = home
        self._loaded = loaded
        self._chunk_tokens = chunk_tokens or prefill.chunk_tokens(loaded.runner.model.device)
        self._cache: OrderedDict[int, Recalled] = OrderedDict()
        """By section; a section that was read further takes the place of what was known of it."""
        self._cache_bytes = cache_bytes
        self._cache_lock = Lock()
        self._journal = Journal(store, home, loaded.runner, loaded.layout, read_again)

    def plan(self, document_id: str) -> Reading:
        """Cut a parsed document into sections, once; the stored plan is used ever after.

        Raises EmptyDocument where no page has text.
        """
        known = self.find(document_id)
        if known is not None:
            return known
        tokenizer, head = self._loaded.runner.model.tokenizer, self._loaded.prompts.head()
        pages = (tokenize(page.number, page.text, tokenizer) for page in self._store.pages(document_id))
        texts = cut(pages, head, self._loaded.section_tokens)
        if not texts:
            raise EmptyDocument(
                "No page of this document has text.",
                "If it is a scan, run it through OCR first: ocrmypdf in.pdf out.pdf",
            )
        rows = [self._row(position, text) for position, text in enumerate(texts)]
        name = self._loaded.runner.model.name
        return self._store.start_reading(document_id, self._loaded.reader, name, self._loaded.recipe, rows)

    def find(self, document_id: str) -> Reading | None:
        """The reading of a document by this model, if it is planned."""
        return self._store.find_reading(document_id, self._loaded.reader)

    def forecast(self, reading: Reading) -> Forecast:
        """What reading will cost."""
        states = [state for _, state in self._store.page_states(reading.document_id)]
        return Forecast(
            pages=len(states),
            pages_without_text=sum(state != "ok" for state in states),
            tokens=reading.num_tokens,
            sections=len(self._store.read_so_far(reading.id)),
            seconds=reading.num_tokens * self._loaded.passes / self._loaded.tokens_per_second,
            disk_bytes=self._disk_bytes(reading),
            free_disk_bytes=self._home.free_bytes(),
        )

    def read(self, reading: Reading, stopped: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
        """Read what is not read yet, if it is queued; progress after every chunk, and a clean end where `stopped()`.

        Raises Busy where another process reads the same document, DiskFull before or while the disk fills up, and
        OutOfMemory where even small pieces of a chunk have no room.
        """
        if reading.state not in TO_READ:
            return
        missing = self._disk_bytes(reading) - reading.num_bytes
        if missing + DISK_SPARE_BYTES > self._home.free_bytes():
            raise DiskFull(missing + DISK_SPARE_BYTES, self._home.free_bytes())
        try:
            with self._home.lock(f"reading-{reading.id}"):
                # Unless somebody paused or cancelled it meanwhile, which then stands.
                if self._store.set_reading_state(reading.id, "reading", only_from=TO_READ):
                    yield from self._read(reading, stopped)
        except (NotStored, DocumentNotFound) as error:
            log.info("reading %d ended, because its document was deleted: %s", reading.id, error)
        except HomeBusy as error:
            raise Busy(
                "Another DocPod process is reading this document.", "It can be asked here as soon as that one is done."
            ) from error
        except StorageFull as error:
            raise DiskFull(error.needed_bytes, error.free_bytes) from error
        except MemoryExhausted as error:
            message = f"The memory ran out while this document was read: {error}."
            raise OutOfMemory(message, "Close other programs that use it, or choose a smaller model.") from error

    def expect(self, sections: Sequence[Section]) -> None:
        """Get the blocks of sections moving that will be recalled in a moment."""
        with self._cache_lock:
            missing = [section.id for section in sections if section.id not in self._cache]
        self._journal.expect([block for section_id in missing for block in self._store.blocks(section_id)])

    def recall(self, section: Section) -> Recalled | None:
        """A section as far as it was read, from the cache or the disk; None where nothing of its pages was read.

        A section with a damaged block is dropped and counts as not read.
        """
        blocks = self._store.blocks(section.id)
        num_tokens = blocks[-1].stop_token if blocks else 0
        if num_tokens <= len(self._loaded.prompts.head()):
            return None
        with self._cache_lock:
            known = self._cache.get(section.id)
            if known is not None and known.pod.num_tokens == num_tokens:
                self._cache.move_to_end(section.id)
                return replace(known, section=section)
        pod = self._journal.load(section, blocks)
        if pod is None:
            return None
        recalled = Recalled(section, self._text(section, num_tokens), pod)
        self._keep(recalled)
        return recalled

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

    def forget(self, reading_id: int) -> None:
        """Drop the cached pods of a reading."""
        with self._cache_lock:
            for section_id in [key for key, each in self._cache.items() if each.section.reading_id == reading_id]:
                del self._cache[section_id]

    def _read(self, reading: Reading, stopped: Callable[[], bool]) -> Iterator[Progress]:
        # Looked up anew each time: a question may find meanwhile that a section which was ready is damaged.
        while waiting := [each for each in self._store.sections(reading.id) if each.state != "ready"]:
            section = waiting[0]
            done = reading.num_tokens - sum(each.num_tokens for each in waiting)
            text = self._text(section, section.num_tokens)
            ids = text.ids
            twin = self._twin(reading, section)
            builder = self._journal.resume(section, twin)
            if twin is not None and builder.num_read and not section.seconds:
                self._store.add_section_seconds(section.id, twin.seconds)
            while builder.num_read < len(ids):
                if stopped():
                    return
                start = time.perf_counter()
                first = builder.num_read
                block = builder.feed(ids[first : first + self._chunk_tokens])
                self._journal.write(section, block)
                seconds = time.perf_counter() - start
                self._store.add_section_seconds(section.id, seconds)
                if block.stop - block.start == self._chunk_tokens:
                    # The last chunk of a section is shorter and says little of the next one.
                    self._loaded.tokens_per_second = self._chunk_tokens / seconds
                yield self._progress(reading, text, done, block.stop, self._loaded.tokens_per_second)
            exact = builder.finish()
            layout, scores = self._loaded.layout, self._journal.scores(section)
            for each in score(self._loaded.runner, ids, exact, layout, scores):
                self._journal.write_scores(section, each)
                if stopped():
                    return
                scores = each
                yield self._progress(reading, text, done, len(ids), self._loaded.tokens_per_second)
            packed = None if layout.recipe.exact else pack_pod(exact, layout, scores)
            self._journal.finish(section, packed)
            self._keep(Recalled(section, text, packed or exact))

    def _disk_bytes(self, reading: Reading) -> int:
        """Most bytes that the reading takes on the disk; what is being read is exact until its section is done."""
        layout, shape = self._loaded.layout, self._loaded.runner.model.shape
        sections = [each.num_tokens for each in self._store.read_so_far(reading.id)]
        kept = sum(expected_bytes(layout, shape, tokens) for tokens in sections)
        return kept + (0 if layout.recipe.exact else max(sections) * shape.token_bytes)

    def _twin(self, reading: Reading, section: Section) -> Section | None:
        """The same section as this model read it exactly, from whose memory any recipe can be made."""
        exact = self._store.find_reading(reading.document_id, self._loaded.exact_reader)
        if exact is None or exact.id == reading.id or self._loaded.layout.recipe.streaming:
            return None
        twin = self._store.sections(exact.id)[section.position]
        return twin if twin.state == "ready" and twin.token_ids == section.token_ids else None

    def _keep(self, recalled: Recalled) -> None:
        """Cache a pod; the least recently used go once their bytes pass the limit."""
        with self._cache_lock:
            self._cache[recalled.section.id] = recalled
            while len(self._cache) > 1 and sum(each.pod.nbytes for each in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)

    def _row(self, position: int, text: SectionText) -> Section:
        ids = text.ids
        packed = pack_token_ids(ids)
        return Section(
            position=position,
            first_page=text.first_page,
            last_page=text.last_page,
            start_char=text.start_char,
            end_char=text.end_char,
            token_ids=packed,
            num_tokens=len(ids),
            identity=hashlib.sha256(f"{self._loaded.reader} {ids}".encode()).hexdigest(),
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
            seconds_left=(reading.num_tokens - done - read) / speed,
        )
