"""The recaller: brings sections back as they were read, from the cache or the disk, and never a damaged one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from app.block_store import BlockStore
from app.errors import DamagedDocument, DocumentNotFound
from app.oom_retry import OomRetry
from app.reader_model import Loaded
from app.sections import SectionText, restore, tokenize
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from storage import Block, Page, Reading, Section, Store, unpack_token_ids

log = logging.getLogger(__name__)

_TRIES = 4
"""So often a section is loaded whose blocks are replaced while they are."""


@dataclass(frozen=True)
class Recalled:
    """A section brought back as far as it was read: its text and its pod."""

    section: Section
    text: SectionText
    pod: AnyPod


class Recaller:
    """Recalls what one model has read; every byte is verified."""

    def __init__(
        self,
        store: Store,
        loaded: Loaded,
        block_store: BlockStore,
        oom_retry: OomRetry,
        parse_anew: Callable[[str], Mapping[int, Page]],
    ) -> None:
        self._store = store
        self._loaded = loaded
        self._block_store = block_store
        self._oom_retry = oom_retry
        self._parse_anew = parse_anew
        self._texts: dict[int, SectionText] = {}
        """By section, about as long as its pod is kept."""
        self._lock = Lock()
        # The words take about as long as the pod, and other parts of the machine.
        self._beside = ThreadPoolExecutor(1, "texts")

    def expect(self, sections: Sequence[Section]) -> None:
        """Get the blocks of sections moving that will be recalled in a moment."""
        kept = set().union(*self._loaded.tiers.keys)
        missing = [section.id for section in sections if section.id not in kept]
        self._block_store.expect([block for section_id in missing for block in self._store.blocks(section_id)])

    def recall(self, section: Section) -> Recalled | None:
        """A section as far as it was read, from the cache or the disk; None where nothing of its pages was read.

        A section with a damaged block is dropped and counts as not read.
        """
        pod = self._oom_retry.run(lambda: self._loaded.tiers.get(section.id))
        if pod is not None and pod.num_tokens == self._store.tokens_read(section.id):
            return Recalled(section, self.text(section, pod.num_tokens), pod)
        for _ in range(_TRIES):
            blocks = self._store.blocks(section.id)
            # After its blocks: they may have been replaced since the caller saw it.
            current = self._store.section(section.id)
            if current is None or not blocks or blocks[-1].stop_token <= len(self._loaded.prompts.head()):
                return None
            if recalled := self._load(current, blocks):
                return recalled
            if self._store.blocks(section.id) == blocks:
                return None
            # Blocks that were replaced while they were loaded are no damage.
        return None

    def text(self, section: Section, num_tokens: int) -> SectionText:
        """The section's first tokens, made from its pages again, or from the original where these no longer give the
        stored ids. Raises DamagedDocument where that does not either, and DocumentNotFound where it was deleted.
        """
        with self._lock:
            known = self._texts.get(section.id)
        if known is None or known.num_tokens != num_tokens:
            known = self._made(section, num_tokens)
            self.keep_text(section, known)
        return known

    def keep_text(self, section: Section, text: SectionText) -> None:
        """Have a text at hand for as long as the section's pod is."""
        kept = set().union(*self._loaded.tiers.keys)
        with self._lock:
            self._texts = {key: each for key, each in self._texts.items() if key in kept} | {section.id: text}

    def _made(self, section: Section, num_tokens: int) -> SectionText:
        reading = self._store.reading(section.reading_id)
        if reading is None:
            raise DocumentNotFound("This document was deleted.", "Choose another one.")
        numbers = range(section.first_page, section.last_page + 1)
        tokenizer = self._loaded.runner.model.tokenizer
        expected = unpack_token_ids(section.token_ids)[:num_tokens]

        def made(pages: Sequence[Page]) -> SectionText | None:
            tokens = [tokenize(page.number, page.text, tokenizer) for page in pages]
            text = restore(section.start_char, num_tokens, tokens, self._loaded.prompts.head())
            return text if text.ids == expected else None

        pages = self._store.pages(reading.document_id, numbers)
        if text := made(pages):
            return text
        log.warning("the text of section %d is made from the original again", section.id)
        parsed = self._parse_anew(reading.document_id)
        # Words that OCR found are in no original.
        found = [parsed.get(each.number, each) for each in pages]
        anew = [page if page.state == "ok" else each for page, each in zip(found, pages, strict=True)]
        if (text := made(anew)) is None:
            raise DamagedDocument("The text of this document is damaged.", "Delete it, and add the file again.")
        for before, page in zip(pages, anew, strict=True):
            if before.text != page.text:
                self._store.replace_page(reading.document_id, page)
        return text

    def _load(self, section: Section, blocks: Sequence[Block]) -> Recalled | None:
        num_tokens, layout = blocks[-1].stop_token, self._layout(section.reading_id)
        text = self._beside.submit(self.text, section, num_tokens)
        pod = self._oom_retry.run(
            lambda: self._loaded.tiers.fetch(
                section.id, num_tokens, lambda: self._block_store.load(section, blocks, layout)
            )
        )
        return None if pod is None else Recalled(section, text.result(), pod)

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

    def forget(self, reading_id: int) -> None:
        """Drop the cached pods and texts of a reading, and the tokens of pages."""
        tokenize.cache_clear()
        for section in self._store.sections(reading_id):
            self._loaded.tiers.forget(section.id)
            with self._lock:
                self._texts.pop(section.id, None)

    def _layout(self, reading_id: int) -> Layout:
        """How the pods of a reading are compressed."""
        reading = self._store.reading(reading_id)
        if reading is None:
            raise DocumentNotFound("This memory was replaced or deleted.", "Ask again, or choose another document.")
        return self._loaded.recipes[reading.recipe].layout
