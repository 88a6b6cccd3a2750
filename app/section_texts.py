"""The texts of sections, made from their pages again and kept about as long as the pods of the same sections."""

from threading import Lock

from app.errors import DocumentNotFound
from app.reader_model import Loaded
from app.sections import SectionText, restore, tokenize
from engine.core.errors import PodMismatch
from storage import Section, Store, unpack_token_ids


class SectionTexts:
    """Texts by section, of one model."""

    def __init__(self, store: Store, loaded: Loaded) -> None:
        self._store = store
        self._loaded = loaded
        self._texts: dict[int, SectionText] = {}
        self._lock = Lock()

    def get(self, section: Section, num_tokens: int) -> SectionText:
        """The section's first tokens. Raises PodMismatch where its pages no longer give the ids that were stored, and
        DocumentNotFound where it was deleted.
        """
        with self._lock:
            known = self._texts.get(section.id)
        if known is None or known.num_tokens != num_tokens:
            known = self._made(section, num_tokens)
            self.keep(section, known)
        return known

    def keep(self, section: Section, text: SectionText) -> None:
        """Have a text at hand for as long as the section's pod is."""
        kept = set().union(*self._loaded.tiers.keys)
        with self._lock:
            self._texts = {key: each for key, each in self._texts.items() if key in kept} | {section.id: text}

    def forget(self, section_id: int) -> None:
        """Drop the text of a section."""
        with self._lock:
            self._texts.pop(section_id, None)

    def _made(self, section: Section, num_tokens: int) -> SectionText:
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
