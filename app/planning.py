"""The planner: which tokens of a document one model reads, section by section, which readings there are of it, and what
reading takes by a recipe, in seconds and bytes, before it is read.
"""

import hashlib
from collections.abc import Iterable, Sequence

from app.errors import EmptyDocument
from app.events import Forecast
from app.reader_model import Loaded
from app.sections import SectionText, cut, tokenize
from storage import Home, Reading, Section, SectionRead, Shelved, Store, pack_token_ids, unpack_token_ids


class Planner:
    """Plans and finds the readings of one model, and forecasts them from its speed so far."""

    def __init__(self, store: Store, home: Home, loaded: Loaded) -> None:
        self._store = store
        self._home = home
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
        return self.mine(self._store.readings(document_id))

    def mine(self, readings: Iterable[Reading]) -> list[Reading]:
        """Those of them that are by this model."""
        possible = [each for each in readings if not self._recipes.why_not(each.recipe)]
        return [each for each in possible if each.reader == self._recipes[each.recipe].reader]

    def is_whole_and_exact(self, reading: Reading) -> bool:
        """Whether any recipe can be made from this reading without the text."""
        return reading.state == "ready" and self._recipes[reading.recipe].layout.recipe.exact

    def forecast(self, reading: Reading, known: Shelved) -> Forecast:
        """What reading a document will cost."""
        sections = known.sections[reading.id]
        return Forecast(
            pages=sum(known.pages.values()),
            pages_without_text=sum(number for state, number in known.pages.items() if state != "ok"),
            tokens=reading.num_tokens,
            sections=len(sections),
            seconds=self.seconds(known.readings, reading.recipe, reading.num_tokens),
            disk_bytes=self.disk_bytes(reading, sections),
            free_disk_bytes=self._home.free_bytes(),
        )

    def seconds(self, readings: Iterable[Reading], recipe: str, num_tokens: int) -> float:
        """About how long a recipe takes: from the exact pods, where one reading has them whole, or from the text."""
        passes = self._recipes[recipe].passes + (1.0 if self.needs_text(readings, recipe) else 0.0)
        sections = -(-num_tokens // self._loaded.section_tokens)
        return passes * sections * self._loaded.pace.seconds(0, num_tokens // max(1, sections))

    def seconds_left(self, reading: Reading, section: Section, read: int, later: Sequence[Section]) -> float:
        """About how long reading goes on behind the first `read` tokens of a section, with the later sections."""
        pace, passes = self._loaded.pace, self._recipes[reading.recipe].passes
        text = 1.0 if self.needs_text(self._store.readings(reading.document_id), reading.recipe) else 0.0
        whole = sum(pace.seconds(0, each.num_tokens) for each in later)
        this = pace.seconds(read, section.num_tokens) + passes * pace.seconds(0, section.num_tokens)
        return this + (text + passes) * whole

    def needs_text(self, readings: Iterable[Reading], recipe: str) -> bool:
        """Whether the text has to be read for a recipe, because none of a document's readings is whole and exact."""
        parts = self._recipes[recipe].layout.recipe
        if parts.exact or parts.precision.while_reading:
            return True
        exact = self._recipes["exact"].reader
        return not any(each.reader == exact and each.state == "ready" for each in readings)

    def num_bytes(self, sections: Iterable[SectionRead], recipe: str) -> int:
        """About how many bytes some sections take, kept by some recipe."""
        return sum(self._recipes.num_bytes(recipe, each.num_tokens) for each in sections)

    def disk_bytes(self, reading: Reading, sections: Sequence[SectionRead]) -> int:
        """Most bytes that the reading takes on the disk; what is packed once it is read is exact until then."""
        recipe, shape = self._recipes[reading.recipe].layout.recipe, self._loaded.runner.model.shape
        longest = max((each.num_tokens for each in sections), default=0)
        kept = recipe.precision.while_reading or (recipe.exact and not shape.windows)
        # The states behind a chunk are there for a moment beside those that take their place.
        more = shape.state_bytes + (0 if kept else longest * shape.token_bytes)
        return self.num_bytes(sections, reading.recipe) + more


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
