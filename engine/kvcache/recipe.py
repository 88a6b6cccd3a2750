"""Recipe: how a pod is compressed, as parts that multiply: keys that layers share, slots that stay, bits."""

import re
from dataclasses import dataclass, replace

from engine.core.errors import RecipeUnknown

NAMED = {"exact": "", "faithful": "keep60+k8v4h", "balanced": "keep40+k4v4h", "compact": "keep27+k4v4h+near4,32"}
"""The dial: each name's parts, chosen from the measurements in docs/fidelity.md."""
BITS = (2, 3, 4, 8, 16)
POLICIES = ("reread", "norm", "streaming", "random")
MODES = ("A", "B", "linear")

_PRECISION = re.compile(r"k(\d+)v(\d+)(h?)(s?)")
_KEEP = re.compile(r"keep(\d+)(?::([a-z]+))?")
_SHARE = re.compile(r"(A|B|linear)(\d+)(?:r(\d))?(?:t(\d+))?(s?)")
_NEAR = re.compile(r"near(\d+),(\d+)")
_ADAPTER = re.compile(r"adapter=([\w.-]+)")


@dataclass(frozen=True)
class Recipe:
    """The parts, each of which is off by default.

    `sinks` and `recent`: tokens at the start and the end of a section that stay exact, once anything is compressed.
    """

    key_bits: int = 16
    value_bits: int = 16
    rotate: bool = False
    """Rotate keys and values by a Hadamard matrix before they are quantized."""
    packing: bool = False
    """Quantize every chunk as soon as it is read, so that those behind it are read over quantized ones, instead of the
    whole section once it is read: its exact keys and values never have to fit in memory."""
    keep: float = 1.0
    """Share of the distant slots that stay, over all layers and KV heads."""
    policy: str = "reread"
    """What decides which slots stay."""
    mode: str = ""
    """`A`: a block's layers share the root's scores (its queries and keys); `B`: its keys, under their own queries;
    `linear`: keys predicted from the root's keys, plus a residual."""
    saving: float = 0.0
    """Share of keys and values that the sharing plan leaves out."""
    residual_bits: int = 0
    """Of mode `linear`; 0 stores no residual."""
    skip: float = 1.0
    """Of mode `A`: where proximal tokens hold at least this share of the attention, distant ones are skipped (the
    paper's tau)."""
    streaming: bool = False
    """Of modes `A` and `B`: share while reading too, as in the paper, instead of dropping keys once it is done."""
    adapter: str = ""
    """Low-rank weights that the model was trained with for sharing."""
    sinks: int = 16
    recent: int = 256

    @property
    def exact(self) -> bool:
        """Whether nothing is compressed."""
        return self.key_bits == self.value_bits == 16 and self.keep == 1.0 and not self.mode

    @property
    def while_reading(self) -> bool:
        """Whether the text is read otherwise than exactly, so that no exact memory can take its place."""
        return self.streaming or self.packing

    def __str__(self) -> str:
        """The parts in the form that `parse` takes; the same recipe always reads the same."""
        parts = []
        if self.mode:
            residual = f"r{self.residual_bits}" if self.residual_bits else ""
            skip = f"t{round(100 * self.skip)}" if self.skip < 1 else ""
            parts.append(f"{self.mode}{round(100 * self.saving)}{residual}{skip}{'s' if self.streaming else ''}")
        if self.adapter:
            parts.append(f"adapter={self.adapter}")
        if self.keep < 1:
            parts.append(f"keep{round(100 * self.keep)}" + (f":{self.policy}" if self.policy != "reread" else ""))
        if min(self.key_bits, self.value_bits) < 16:
            marks = ("h" if self.rotate else "") + ("s" if self.packing else "")
            parts.append(f"k{self.key_bits}v{self.value_bits}{marks}")
        if not self.exact and (self.sinks, self.recent) != (16, 256):
            parts.append(f"near{self.sinks},{self.recent}")
        return "+".join(parts) or "exact"


def parse(text: str) -> Recipe:
    """A recipe from its name or its parts, such as `keep50+k4v4`. Raises RecipeUnknown, which says what there is.

    `k4v3` bits of keys and values (`h`: rotated; `s`: quantized while reading), `keep30:norm` share and policy, `A35`
    mode and saving (`t70`: skip where proximal tokens hold 70 %; `s`: share while reading), `linear35r2` with a
    residual of 2 bits, `near16,256` exact tokens, `adapter=NAME`.
    """
    recipe = Recipe()
    for part in NAMED.get(text, text).split("+") if text != "exact" else ():
        if found := _PRECISION.fullmatch(part):
            key_bits, value_bits = int(found[1]), int(found[2])
            rotate, packing = bool(found[3]), bool(found[4])
            recipe = replace(recipe, key_bits=key_bits, value_bits=value_bits, rotate=rotate, packing=packing)
        elif found := _KEEP.fullmatch(part):
            recipe = replace(recipe, keep=int(found[1]) / 100, policy=found[2] or "reread")
        elif found := _SHARE.fullmatch(part):
            recipe = replace(
                recipe,
                mode=found[1],
                saving=int(found[2]) / 100,
                residual_bits=int(found[3] or 0),
                skip=int(found[4] or 100) / 100,
                streaming=bool(found[5]),
            )
        elif found := _NEAR.fullmatch(part):
            recipe = replace(recipe, sinks=int(found[1]), recent=int(found[2]))
        elif found := _ADAPTER.fullmatch(part):
            recipe = replace(recipe, adapter=found[1])
        else:
            raise RecipeUnknown(f"{part!r} is no part of a recipe; recipes are {', '.join(NAMED)}, or parts: {_FORMS}")
    _check(recipe, text)
    return recipe


_FORMS = "k4v4, k4v4hs, keep50, keep50:norm, A35, B35, linear35r2, near16,256, joined by +"


def _check(recipe: Recipe, text: str) -> None:
    """Raise RecipeUnknown for parts that do not exist or do not go together."""
    wrong = ""
    if not {recipe.key_bits, recipe.value_bits} <= set(BITS) or recipe.residual_bits not in (0, *BITS[:3]):
        wrong = f"bits are {', '.join(map(str, BITS))}, of a residual 2, 3 or 4"
    elif not 0 < recipe.keep <= 1 or recipe.policy not in POLICIES:
        wrong = f"keep 1 to 100 percent, by {', '.join(POLICIES)}"
    elif recipe.mode and not 0 < recipe.saving < 0.5:
        wrong = "sharing keys can save 1 to 49 percent of keys and values"
    elif recipe.mode != "linear" and recipe.residual_bits:
        wrong = "only linear sharing has a residual"
    elif recipe.mode == "linear" and (recipe.keep < 1 or recipe.streaming):
        wrong = "linear sharing predicts a slot from every head of the root, so all of them must stay"
    elif recipe.mode != "A" and recipe.skip < 1:
        wrong = "only mode A knows the far scores before it computes them"
    elif recipe.packing and min(recipe.key_bits, recipe.value_bits) == 16:
        wrong = "16 bits leave nothing to quantize while reading"
    elif recipe.packing and (recipe.keep < 1 or recipe.mode):
        wrong = "quantizing while reading keeps every slot, and keys that no layers share"
    elif recipe.recent < 1:
        wrong = "at least the last token stays exact"
    if wrong:
        raise RecipeUnknown(f"{text!r} is no recipe: {wrong}")
