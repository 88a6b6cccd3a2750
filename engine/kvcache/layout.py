"""Layout: what the parts of a compressed pod mean for one model: recipe, shared keys, predicted keys, coding basis."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.core.errors import PlanMissing
from engine.core.kv_shape import KVShape
from engine.core.quant import packed_bytes
from engine.kvcache import basis, key_maps, sharing_plan
from engine.kvcache.basis import Basis
from engine.kvcache.key_maps import KeyMaps
from engine.kvcache.recipe import Recipe
from engine.kvcache.summaries import SUMMARIES, less
from engine.kvcache.summaries.base import UNTRAINED, Learned
from engine.models.families.registry import angles_of
from engine.models.loader import Model


@dataclass(frozen=True)
class Layout:
    """`roots[layer][kv_head]` is the layer whose distant keys serve this one: itself where nothing is shared."""

    recipe: Recipe
    roots: tuple[tuple[int, ...], ...]
    maps: KeyMaps | None = None
    basis: Basis | None = None
    learned: Learned = UNTRAINED
    """What a summary was trained with."""

    @property
    def digest(self) -> str:
        """sha256 of everything that a pod of this layout depends on, except the model."""
        facts = [str(self.recipe), self.roots, self.maps.digest if self.maps else ""]
        facts += [self.basis.digest] if self.basis else []
        facts += [self.learned.digest] if self.learned.tensors else []
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def proximal(self, num_tokens: int) -> list[int]:
        """The positions that stay exact in a section of so many tokens."""
        distant = self.recipe.distant(num_tokens)
        return [*range(distant.start), *range(distant.stop, num_tokens)]

    def stores_keys(self, layer: int, kv_head: int) -> bool:
        """Whether something of this layer's own distant keys is stored: the keys, or what their prediction misses."""
        return self.key_bits(layer, kv_head) > 0

    def key_bits(self, layer: int, kv_head: int) -> int:
        """Bits of what is stored of this layer's distant keys; 0 where nothing is."""
        own = self.roots[layer][kv_head] == layer
        return self.recipe.precision.keys if own else self.recipe.sharing.residual_bits


def expected_bytes(layout: Layout, shape: KVShape, num_tokens: int) -> int:
    """Bytes of a pod of so many tokens: PoD's memory formula, with bits, kept slots and their bitmap.

    Exact where every head keeps as many slots; with pooled selection heads differ, and their last groups' scales with
    them.
    """
    recipe, distant = layout.recipe, len(layout.recipe.distant(num_tokens))
    if recipe.exact or not distant:
        return shape.num_bytes(num_tokens)
    if layout.basis:
        coded = distant * layout.basis.bits(recipe.coding.step) / 8
        return (num_tokens - distant) * shape.token_bytes + round(coded) + shape.state_bytes
    rows = recipe.selection.slots(distant)
    values = packed_bytes(rows, shape.head_dim, recipe.precision.values, "token", shape.dtype)
    total = shape.state_bytes + (num_tokens - distant) * shape.token_bytes + shape.layers * shape.kv_heads * values
    for layer in range(shape.layers):
        for head in range(shape.kv_heads):
            if layout.stores_keys(layer, head):
                bits = layout.key_bits(layer, head)
                total += packed_bytes(rows, shape.head_dim, bits, "channel", shape.dtype)
    if recipe.selection.summary:
        fields = SUMMARIES[recipe.selection.summary].fields(shape, recipe.selection, distant)
        total += shape.layers * sum(dtype.itemsize * math.prod(dims) for dtype, dims in fields)
    return total + (shape.layers * shape.kv_heads * -(-distant // 8) if recipe.selection.drops else 0)


def layout_of(model: Model, recipe: Recipe, folders: Sequence[Path] = ()) -> Layout:
    """The layout of a recipe for this model. Raises PlanMissing where the model was not calibrated for it, or cannot
    be read by it."""
    shape = model.shape
    own = tuple((layer,) * each.kv_heads for layer, each in enumerate(shape.per_layer))
    if shape.peculiarity and not recipe.exact:
        raise PlanMissing(f"{model.name} has {shape.peculiarity}: it is read by the recipe exact")
    if recipe.coding.step:
        found = basis.find(model, *folders)
        if found is None:
            raise PlanMissing(f"{model.name} is not prepared for it yet: docpod readers prepare does that, once")
        return Layout(recipe, own, basis=found)
    if recipe.selection.summary == "less":
        learned = less.find(model, *folders)
        if learned is None:
            raise PlanMissing(
                f"{model.name} was not trained for it: python -m engine.training.less_fit --model ... does that, once"
            )
        return Layout(recipe, own, learned=learned)
    saving = recipe.sharing.saving
    if not recipe.sharing.mode:
        return Layout(recipe, own)
    if recipe.sharing.mode == "linear":
        maps = key_maps.find(model, saving, angles_of(model.network, shape.head_dim), *folders)
        if maps is None:
            raise PlanMissing(
                f"{model.name} has no key maps to save {round(100 * saving)} %: "
                f"make them with python -m engine.training.sharing.map_fit --model ... --saving {saving}"
            )
        return Layout(recipe, tuple((root,) * shape.kv_heads for root in maps.roots), maps)
    plan = sharing_plan.find(model.name, model.digest, saving, *folders)
    if plan is None:
        raise PlanMissing(
            f"{model.name} has no plan to share {round(100 * saving)} %: "
            f"make one with python -m engine.training.sharing.plan_search --model ... --saving {saving}"
        )
    return Layout(recipe, plan.roots)
