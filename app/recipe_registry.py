"""The recipe registry: what each recipe means for the loaded model, found out when it is first asked for."""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.prompts import PROMPT_VERSION, Prompts
from engine.core.errors import PlanMissing, RecipeUnknown
from engine.kvcache.layout import Layout, expected_bytes, layout_of
from engine.kvcache.recipe import NAMED, POLICIES, Recipe, parse
from engine.models.loader import Model

FORMAT_VERSION = 1
_ROUNDED = (
    (0.2, "every token, rounded finely, which is nearest to exact; unpacked when it is asked"),
    (0.4, "every token, rounded less finely; unpacked when it is asked"),
    (0.6, "every token, rounded coarsely; unpacked when it is asked"),
    (math.inf, "every token, rounded most coarsely, which takes the least; unpacked when it is asked"),
)
"""What coded recipes keep, up to which step; how near each is to exact: docs/fidelity.md."""


@dataclass(frozen=True)
class Prepared:
    """A recipe for one model. `reader` is the digest of everything that shapes a pod except its tokens."""

    layout: Layout
    reader: str

    @property
    def passes(self) -> float:
        """How often an exact memory goes through the model once more before it is compressed."""
        selection = self.layout.recipe.selection
        return POLICIES[selection.policy].passes if selection.drops else 0.0


class RecipeRegistry:
    """Recipes by their name or parts; the one that the program was `started_with` must be there."""

    def __init__(self, model: Model, prompts: Prompts, folder: Path, started_with: str) -> None:
        self._model = model
        self._prompts = prompts
        self._folder = folder
        self._prepared: dict[str, Prepared] = {}
        self._bytes: dict[tuple[str, int], int] = {}
        # A recipe that the program was started with must be there, so whoever starts it hears of it at once.
        self.names = tuple(dict.fromkeys((*NAMED, named(started_with))))
        self._prepared[named(started_with)] = self._prepare(parse(started_with))

    def __getitem__(self, name: str) -> Prepared:
        """Raises RecipeUnknown, and PlanMissing where this model cannot be read so."""
        if name not in self._prepared:
            self._prepared[name] = self._prepare(parse(name))
        return self._prepared[name]

    def why_not(self, name: str) -> str:
        """Why the model cannot be read by a recipe; empty where it can."""
        try:
            self[name]
        except (PlanMissing, RecipeUnknown) as error:
            return f"{error}."
        return ""

    def num_bytes(self, name: str, num_tokens: int) -> int:
        """About how many bytes a section of so many tokens takes."""
        known = self._bytes.get((name, num_tokens))
        if known is None:
            known = expected_bytes(self[name].layout, self._model.shape, num_tokens)
            self._bytes[name, num_tokens] = known
        return known

    def costs(self, section_tokens: int) -> dict[str, str]:
        """Every recipe with its parts and what it stores of sections of so many tokens, or why it is not there."""
        return {name: self.why_not(name) or self._cost(name, section_tokens) for name in self.names}

    def _cost(self, name: str, section_tokens: int) -> str:
        layout = self[name].layout
        ends = 0 if layout.recipe.exact else len(layout.proximal(section_tokens))
        at_ends = self.num_bytes(name, ends)
        rate = (self.num_bytes(name, section_tokens) - at_ends) / max(1, section_tokens - ends)
        near = f"the {ends} at its ends, which stay exact" if ends else ""
        parts = " and ".join(filter(None, (near, "the states of its layers" if self._model.shape.states else "")))
        more = f", and {at_ends:,} a section for {parts}" if parts else ""
        return f"{layout.recipe}: {rate:,.0f} bytes a token{more}"

    def _prepare(self, recipe: Recipe) -> Prepared:
        layout = layout_of(self._model, recipe, [self._folder])
        return Prepared(layout, self._identity("exact" if recipe.exact else layout.digest))

    def _identity(self, recipe: str) -> str:
        """Nothing of the machine goes into it."""
        model = self._model
        template, dtype = self._prompts.template, str(model.shape.dtype)
        facts = [model.digest, dtype, template, PROMPT_VERSION, recipe, FORMAT_VERSION]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@cache
def named(text: str) -> str:
    """The name of a recipe that is given by its parts, where it has one. Raises RecipeUnknown."""
    recipe = parse(text)
    return next((name for name in NAMED if parse(name) == recipe), text)


def kept_by(name: str) -> str:
    """What a recipe keeps, in words: `40 % of the tokens in 4 bits`. Raises RecipeUnknown."""
    recipe = parse(name)
    if recipe.exact:
        return "everything, as it was read"
    if recipe.coding.step:
        return next(words for step, words in _ROUNDED if recipe.coding.step <= step)
    tokens = f"{round(100 * recipe.selection.keep)} % of the tokens" if recipe.selection.drops else "every token"
    bits = sorted({recipe.precision.keys, recipe.precision.values} - {16})
    shared = ", with keys shared between layers" if recipe.sharing.mode else ""
    precision = f" in {' and '.join(map(str, bits))} bits" if bits else ""
    return f"{tokens}{precision}{shared}"
