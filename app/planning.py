"""The planner: which tokens of a document one model reads, section by section, and which readings there are of it."""

import hashlib

from app.errors import EmptyDocument
from app.reader_model import Loaded
from app.sections import SectionText, cut, tokenize
from storage import Reading, Section, Store, pack_token_ids, unpack_token_ids


class Planner:
    """Plans and finds the readings of one model."""

    def __init__(self, store: Store, loaded: Loaded) -> None:
        self._store = store
        self._loaded = loaded
        self._recipes = loaded.recipes

    def plan(self, document_id: str, recipe: str) -> Reading:
        """Cut a parsed document into sections, once; the stored plan is used ever after, and by every recipe.

        Raises EmptyDocument where no page has text.
        """
        known = self.find(document_id, recipe)
        if known is not None:
            return known
        reader, name = self._recipes[recipe].reader, self._loaded.runner.model.name
        kept = (self._store.sections(each.id) for each in reversed(self.readings(document_id)))
        # One that is deleted at this moment has none.
        if sections := next(filter(None, kept), []):
            rows = [_row(reader, unpack_token_ids(each.token_ids), each.position, each) for each in sections]
            return self._store.start_reading(document_id, reader, name, recipe, rows)
        tokenizer, head = self._loaded.runner.model.tokenizer, self._loaded.prompts.head()
        pages = (tokenize(page.number, page.text, tokenizer) for page in self._store.pages(document_id))
        texts = cut(pages, head, self._loaded.section_tokens)
        if not texts:
            raise EmptyDocument("No page of this document has text.", "Read its pages by OCR first.")
        rows = [_row(reader, text.ids, position, text) for position, text in enumerate(texts)]
        return self._store.start_reading(document_id, reader, name, recipe, rows)

    def find(self, document_id: str, recipe: str) -> Reading | None:
        """The reading of a document by this model and a recipe, if it is planned."""
        return self._store.find_reading(document_id, self._recipes[recipe].reader)

    def readings(self, document_id: str) -> list[Reading]:
        """Those of this model, by whichever recipe, oldest first."""
        found = self._store.readings(document_id)
        possible = [each for each in found if not self._recipes.why_not(each.recipe)]
        return [each for each in possible if each.reader == self._recipes[each.recipe].reader]

    def is_whole_and_exact(self, reading: Reading) -> bool:
        """Whether any recipe can be made from this reading without the text."""
        return reading.state == "ready" and self._recipes[reading.recipe].layout.recipe.exact


def _row(reader: str, ids: list[int], position: int, place: SectionText | Section) -> Section:
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
