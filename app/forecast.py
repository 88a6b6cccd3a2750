"""The forecaster: what it takes to read a document by a recipe, in seconds and bytes, before it is read."""

from collections.abc import Sequence

from app.events import Forecast
from app.planning import Planner
from app.reader_model import Loaded
from storage import Home, Reading, Section, Store


class Forecaster:
    """Forecasts for one model, from its speed so far."""

    def __init__(self, store: Store, home: Home, loaded: Loaded, planner: Planner) -> None:
        self._store = store
        self._home = home
        self._loaded = loaded
        self._planner = planner
        self._recipes = loaded.recipes

    def forecast(self, reading: Reading) -> Forecast:
        """What reading will cost."""
        states = [state for _, state in self._store.page_states(reading.document_id)]
        return Forecast(
            pages=len(states),
            pages_without_text=sum(state != "ok" for state in states),
            tokens=reading.num_tokens,
            sections=len(self._store.read_so_far(reading.id)),
            seconds=self.seconds(reading.document_id, reading.recipe, reading.num_tokens),
            disk_bytes=self.disk_bytes(reading),
            free_disk_bytes=self._home.free_bytes(),
        )

    def seconds(self, document_id: str, recipe: str, num_tokens: int) -> float:
        """About how long a recipe takes: from the exact pods, where they are whole, or else from the text."""
        passes = self._recipes[recipe].passes + (1.0 if self.needs_text(document_id, recipe) else 0.0)
        sections = -(-num_tokens // self._loaded.section_tokens)
        return passes * sections * self._loaded.pace.seconds(0, num_tokens // max(1, sections))

    def seconds_left(self, reading: Reading, section: Section, read: int, later: Sequence[Section]) -> float:
        """About how long reading goes on behind the first `read` tokens of a section, with the later sections."""
        pace, passes = self._loaded.pace, self._recipes[reading.recipe].passes
        text = 1.0 if self.needs_text(reading.document_id, reading.recipe) else 0.0
        whole = sum(pace.seconds(0, each.num_tokens) for each in later)
        this = pace.seconds(read, section.num_tokens) + passes * pace.seconds(0, section.num_tokens)
        return this + (text + passes) * whole

    def needs_text(self, document_id: str, recipe: str) -> bool:
        """Whether the text has to be read for a recipe, because there are no whole exact pods to make its own from."""
        parts = self._recipes[recipe].layout.recipe
        exact = None if parts.exact or parts.while_reading else self._planner.find(document_id, "exact")
        return exact is None or exact.state != "ready"

    def num_bytes(self, reading: Reading, recipe: str) -> int:
        """About how many bytes the sections of a reading take, kept by some recipe."""
        sections = self._store.read_so_far(reading.id)
        return sum(self._recipes.num_bytes(recipe, each.num_tokens) for each in sections)

    def disk_bytes(self, reading: Reading) -> int:
        """Most bytes that the reading takes on the disk; what is packed once it is read is exact until then."""
        recipe, shape = self._recipes[reading.recipe].layout.recipe, self._loaded.runner.model.shape
        longest = max((each.num_tokens for each in self._store.read_so_far(reading.id)), default=0)
        kept = recipe.precision.while_reading or (recipe.exact and not shape.windows)
        return self.num_bytes(reading, reading.recipe) + (0 if kept else longest * shape.token_bytes)
