"""Presets: by which recipe each document is kept, and what another one would cost."""

from collections.abc import Mapping, Sequence

from app.events import PresetState, RecipeStep
from app.planning import Planner
from app.recipe_registry import RecipeRegistry, kept_by, named
from app.settings import Settings
from engine.kvcache.recipe import parse
from storage import Document, Reading, SectionRead, Shelved, Store

_LAST_CHOSEN = "recipe"
USUAL = "faithful"
"""By which documents are kept that nobody chose a recipe for, where the reader is prepared."""


class Presets:
    """A document is kept as it was chosen for it, or else as it was read; new ones as was chosen last.

    The recipe that the program was started with, if any, is the last choice until another one is made.
    """

    def __init__(self, store: Store, recipes: RecipeRegistry, planner: Planner, settings: Settings) -> None:
        self._store = store
        self._recipes = recipes
        self._planner = planner
        self._settings = settings

    def plan(self, document_id: str) -> Reading:
        """The reading of a parsed document by its recipe, planned if it is not yet. Raises EmptyDocument."""
        document, readings = self._store.document(document_id), self._planner.readings(document_id)
        return self._planner.plan(document_id, self._chosen(document, readings))

    def current(self, document_id: str) -> Reading | None:
        """The one by the recipe of a document among its readings, if it is planned."""
        return self._current(self._store.document(document_id), self._planner.readings(document_id))

    def of(self, known: Shelved) -> tuple[Reading | None, Reading | None]:
        """The current reading of a document, and the one that answers."""
        readings = self._planner.mine(known.readings)
        current = self._current(known.document, readings)
        return current, self._serving(readings, current, known.sections)

    def choose(self, document_id: str, recipe: str) -> None:
        """Keep a document, and those that are added from now on, by this recipe. Raises NotStored."""
        self._store.choose_recipe(document_id, recipe)
        self._store.prefer(_LAST_CHOSEN, recipe)
        self._settings.recipe = ""

    def usual(self) -> str:
        """The recipe of new documents."""
        usual = USUAL if self._settings.coded else ""
        wanted = (self._settings.recipe, self._store.preference(_LAST_CHOSEN), usual, "exact")
        return next(named(each) for each in wanted if each and not self._recipes.why_not(each))

    def serving(self, document_id: str, recipe: str = "") -> Reading | None:
        """The reading that answers: with a `recipe` only its own; otherwise the one of which most is read.

        Of several that are ready, the chosen one.
        """
        if recipe:
            return self._planner.find(document_id, recipe)
        return next((self.of(each)[1] for each in self._store.shelf(document_id)), None)

    def state(self, document_id: str) -> PresetState | None:
        """How a document is kept, and how it could be; None where it is not planned yet."""
        known = next(iter(self._store.shelf(document_id)), None)
        readings = self._planner.mine(known.readings) if known else []
        if not known or not readings:
            return None
        chosen = self._chosen(known.document, readings)
        current, serving = self.of(known)
        ready = current is not None and current.state == "ready"
        others = [each for each in readings if current is None or each.id != current.id]
        return PresetState(
            document_id=document_id,
            chosen=chosen,
            answers_from=named(serving.recipe) if serving and serving.num_bytes else "",
            steps=tuple(
                self._step(known, name, readings[-1]) for name in dict.fromkeys((*self._recipes.names, chosen))
            ),
            kept=tuple((named(each.recipe), each.num_bytes) for each in others if ready and each.num_bytes),
            goes=tuple(
                named(each.recipe) for each in readings if each.num_bytes and not self._planner.is_whole_and_exact(each)
            ),
        )

    def _current(self, document: Document | None, readings: Sequence[Reading]) -> Reading | None:
        reader = self._recipes[self._chosen(document, readings)].reader
        return next((each for each in readings if each.reader == reader), None)

    def _chosen(self, document: Document | None, readings: Sequence[Reading]) -> str:
        """The recipe of a document. One that the model cannot be read by counts as never chosen."""
        if document and document.recipe and not self._recipes.why_not(document.recipe):
            return named(document.recipe)
        if readings:
            return named(max(readings, key=lambda each: (each.state == "ready", each.id)).recipe)
        return self.usual()

    def _serving(
        self, readings: Sequence[Reading], chosen: Reading | None, sections: Mapping[int, Sequence[SectionRead]]
    ) -> Reading | None:
        if chosen is not None and chosen.state == "ready":
            return chosen

        def worth(reading: Reading) -> tuple[int, bool, bool, int]:
            mine = chosen is not None and reading.id == chosen.id
            tokens = sum(each.tokens_read for each in sections[reading.id])
            return tokens, reading.state == "ready", mine, reading.id

        return max(readings, key=worth, default=None)

    def _step(self, known: Shelved, name: str, planned: Reading) -> RecipeStep:
        parts, keeps = str(parse(name)), kept_by(name)
        if why_not := self._recipes.why_not(name):
            return RecipeStep(name, parts, keeps, why_not=why_not)
        reader, sections = self._recipes[name].reader, known.sections[planned.id]
        reading = next((each for each in known.readings if each.reader == reader), None)
        ready = reading is not None and reading.state == "ready"
        exact, own = self._planner.num_bytes(sections, "exact"), self._planner.num_bytes(sections, name)
        disk_bytes = reading.num_bytes if reading and ready else own
        return RecipeStep(
            name=name,
            parts=parts,
            keeps=keeps,
            share=disk_bytes / max(1, exact),
            disk_bytes=disk_bytes,
            seconds=0.0 if ready else self._planner.seconds(known.readings, name, planned.num_tokens),
            ready=ready,
            needs_text=self._planner.needs_text(known.readings, name),
        )
