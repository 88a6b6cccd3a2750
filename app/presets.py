"""Presets: by which recipe each document is kept, and what another one would cost."""

from collections.abc import Sequence

from app.events import PresetState, RecipeStep
from app.memory import Memory
from app.recipe_registry import kept_by, named
from engine.kvcache.recipe import parse
from storage import Reading, Store

_LAST_CHOSEN = "recipe"


class Presets:
    """A document is kept as it was chosen for it, or else as it was read; new ones as was chosen last.

    `given` is the recipe that the program was started with, if any: the last choice, until another one is made.
    """

    def __init__(self, store: Store, given: str) -> None:
        self._store = store
        self._given = given

    def chosen(self, memory: Memory, document_id: str) -> str:
        """The recipe of a document. One that the model cannot be read by counts as never chosen."""
        return self._chosen(memory, document_id, memory.readings(document_id))

    def current(self, memory: Memory, document_id: str) -> Reading | None:
        """The reading by the chosen recipe, if it is planned."""
        readings = memory.readings(document_id)
        return self._current(memory, document_id, readings)

    def choose(self, document_id: str, recipe: str) -> None:
        """Keep a document, and those that are added from now on, by this recipe. Raises NotStored."""
        self._store.choose_recipe(document_id, recipe)
        self._store.prefer(_LAST_CHOSEN, recipe)
        self._given = ""

    def serving(self, memory: Memory, document_id: str, recipe: str = "") -> Reading | None:
        """The reading that answers: with a `recipe` only its own; otherwise the one of which most is read.

        Of several that are ready, the chosen one.
        """
        if recipe:
            return memory.find(document_id, recipe)
        readings = memory.readings(document_id)
        return self._serving(memory, readings, self._current(memory, document_id, readings))

    def state(self, memory: Memory, document_id: str) -> PresetState | None:
        """How a document is kept, and how it could be; None where it is not planned yet."""
        readings = memory.readings(document_id)
        if not readings:
            return None
        chosen = self._chosen(memory, document_id, readings)
        current = self._current(memory, document_id, readings)
        serving = self._serving(memory, readings, current)
        ready = current is not None and current.state == "ready"
        others = [each for each in readings if current is None or each.id != current.id]
        return PresetState(
            document_id=document_id,
            chosen=chosen,
            answers_from=named(serving.recipe) if serving and serving.num_bytes else "",
            steps=tuple(
                self._step(memory, document_id, name, readings[-1])
                for name in dict.fromkeys((*memory.recipes.names, chosen))
            ),
            kept=tuple((named(each.recipe), each.num_bytes) for each in others if ready and each.num_bytes),
            goes=tuple(
                named(each.recipe) for each in readings if each.num_bytes and not memory.is_whole_and_exact(each)
            ),
        )

    def _chosen(self, memory: Memory, document_id: str, readings: Sequence[Reading]) -> str:
        document = self._store.document(document_id)
        if document and document.recipe and not memory.recipes.why_not(document.recipe):
            return named(document.recipe)
        if readings:
            return named(max(readings, key=lambda each: (each.state == "ready", each.id)).recipe)
        wanted = (self._given, self._store.preference(_LAST_CHOSEN), "exact")
        return next(named(each) for each in wanted if each and not memory.recipes.why_not(each))

    def _current(self, memory: Memory, document_id: str, readings: Sequence[Reading]) -> Reading | None:
        reader = memory.recipes[self._chosen(memory, document_id, readings)].reader
        return next((each for each in readings if each.reader == reader), None)

    def _serving(self, memory: Memory, readings: Sequence[Reading], chosen: Reading | None) -> Reading | None:
        if chosen is not None and chosen.state == "ready":
            return chosen

        def worth(reading: Reading) -> tuple[int, bool, bool, int]:
            mine = chosen is not None and reading.id == chosen.id
            return memory.tokens_read(reading), reading.state == "ready", mine, reading.id

        return max(readings, key=worth, default=None)

    def _step(self, memory: Memory, document_id: str, name: str, planned: Reading) -> RecipeStep:
        parts, keeps = str(parse(name)), kept_by(name)
        if why_not := memory.recipes.why_not(name):
            return RecipeStep(name, parts, keeps, why_not=why_not)
        reading = memory.find(document_id, name)
        ready = reading is not None and reading.state == "ready"
        exact, own = memory.num_bytes(planned, "exact"), memory.num_bytes(planned, name)
        return RecipeStep(
            name=name,
            parts=parts,
            keeps=keeps,
            bytes_per_token=own / max(1, planned.num_tokens),
            share=own / max(1, exact),
            disk_bytes=reading.num_bytes if reading and ready else own,
            seconds=0.0 if ready else memory.seconds(document_id, name, planned.num_tokens),
            ready=ready,
            needs_text=memory.needs_text(document_id, name),
        )
