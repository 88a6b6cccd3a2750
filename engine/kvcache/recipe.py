"""Recipe: how a pod is compressed, as parts that multiply: keys that layers share, slots that stay, bits."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import RecipeUnknown
from engine.core.quant import hadamard

NAMED = {
    "exact": "",
    "light": "keep40+k4v4h",
    "faithful": "coded16+near4,1",
    "balanced": "coded30+near4,1",
    "compact": "coded48+near4,1",
    "archive": "coded75+near4,1",
}
"""The dial: each name's parts, chosen from the measurements in docs/fidelity.md. `light` is small in memory, too, and
for readers that no basis can be found for."""
BITS = (2, 3, 4, 8, 16)


@dataclass(frozen=True)
class Policy:
    """What decides which distant slots stay."""

    score: str
    """`module:function` in engine.compression.policies, found once it is needed: it reads, which needs recipes."""
    pooled: bool = False
    """Whether scores compare between heads, so that heads may keep different numbers of slots."""
    budgeted: bool = False
    """Whether scores are of a recipe's own distant slots, and of how many of them stay."""
    passes: float = 0.0
    """How often it takes the text through the model once more."""
    merge: str = ""
    """`module:function` in engine.compression.policies: what kept slots take up of the others; found as scores are."""
    summary: str = ""
    """Its name in engine.kvcache.summaries: what stands for those that do not stay, beside those that do."""
    rows: float = 1.0
    """The share of what is kept that is slots; the rest is for the summary."""


POLICIES: Mapping[str, Policy] = {
    "reread": Policy("reread:reread", pooled=True, passes=1),
    "norm": Policy("simple:key_norm"),
    "l2norm": Policy("l2norm:l2norm", pooled=True, budgeted=True),
    "streaming": Policy("simple:streaming"),
    "sepllm": Policy("sepllm:sepllm", budgeted=True),
    "chunk10": Policy("chunkkv:chunkkv", budgeted=True),
    "chunk20": Policy("chunkkv:chunkkv", budgeted=True),
    "keyformer": Policy("keyformer:keyformer", budgeted=True, passes=1),
    "cascading": Policy("cascading:cascading", budgeted=True, passes=1),
    "h2o": Policy("h2o:h2o", passes=1),
    "elastic": Policy("elastic:elastic", passes=1, merge="elastic:values"),
    "elastickv": Policy("elastic:elastic", passes=1, merge="elastic:keys_and_values"),
    "subgen": Policy("simple:none", summary="subgen", rows=0.0),
    "less": Policy("h2o:h2o", passes=1, summary="less"),
    "random": Policy("simple:at_random", pooled=True),
}
"""By their names in a recipe."""


@dataclass(frozen=True)
class Precision:
    """Bits of distant keys and values."""

    keys: int = 16
    values: int = 16
    rotate: bool = False
    """Rotate keys and values by a Hadamard matrix before they are quantized."""
    while_reading: bool = False
    """Quantize every chunk as soon as it is read, so that those behind it are read over quantized ones, instead of the
    whole section once it is read: its exact keys and values never have to fit in memory."""

    def __str__(self) -> str:
        marks = ("h" if self.rotate else "") + ("s" if self.while_reading else "")
        return f"k{self.keys}v{self.values}{marks}" if min(self.keys, self.values) < 16 else ""

    @property
    def parts(self) -> tuple[tuple[str, int, str], tuple[str, int, str]]:
        """Name, bits, and along what scales are shared, of keys and of values."""
        return ("keys", self.keys, "channel"), ("values", self.values, "token")

    def rotation(self, dim: int, device: torch.device) -> Tensor | None:
        """The matrix (D, D) that distant keys and values are rotated by, if they are."""
        return hadamard(dim, device) if self.rotate else None


@dataclass(frozen=True)
class Selection:
    """Which distant slots stay."""

    keep: float = 1.0
    """Their share, over all layers and KV heads."""
    policy: str = "reread"
    """What decides which ones."""

    def __str__(self) -> str:
        by = f":{self.policy}" if self.policy != "reread" else ""
        return f"keep{round(100 * self.keep, 2):g}{by}" if self.drops else ""

    @property
    def drops(self) -> bool:
        """Whether some do not stay."""
        return self.keep < 1

    def slots(self, distant: int) -> int:
        """How many of so many stay."""
        return round(self.keep * distant * self.by.rows)

    @property
    def by(self) -> Policy:
        """The policy."""
        return POLICIES[self.policy]

    @property
    def summary(self) -> str:
        """What stands for those that do not stay; empty where nothing does."""
        return self.by.summary if self.drops else ""


@dataclass(frozen=True)
class Sharing:
    """Distant keys that layers have in common, or that are predicted from those of others."""

    mode: str = ""
    """`A`: a block's layers share the root's scores (its queries and keys); `B`: its keys, under their own queries;
    `linear`: keys predicted from the root's keys, plus a residual."""
    saving: float = 0.0
    """Share of keys and values that the sharing plan leaves out."""
    residual_bits: int = 0
    """Of mode `linear`; 0 stores no residual."""

    def __str__(self) -> str:
        residual = f"r{self.residual_bits}" if self.residual_bits else ""
        return f"{self.mode}{round(100 * self.saving)}{residual}" if self.mode else ""

    def asking(self, roots: Sequence[int]) -> tuple[int, ...] | None:
        """The layers whose queries meet the keys of these roots, one per KV head; None: each layer's own do."""
        return tuple(roots) if self.mode == "A" else None


@dataclass(frozen=True)
class Coding:
    """Keys and values of all layers coded together on the disk: see engine.kvcache.blocks.coded."""

    step: float = 0.0
    """What components are rounded to multiples of, beside a mean weight of 1; 0: not coded."""

    def __str__(self) -> str:
        return f"coded{round(100 * self.step)}" if self.step else ""


@dataclass(frozen=True)
class Recipe:
    """The parts, each of which is off by default.

    `sinks` and `recent`: tokens at the start and the end of a section that stay exact, once anything is compressed.
    """

    sharing: Sharing = Sharing()
    selection: Selection = Selection()
    precision: Precision = Precision()
    coding: Coding = Coding()
    sinks: int = 16
    recent: int = 256

    @property
    def exact(self) -> bool:
        """Whether nothing is compressed."""
        return not any(map(str, (self.sharing, self.selection, self.precision, self.coding)))

    def distant(self, num_tokens: int) -> range:
        """The tokens that do not stay exact, of a section of so many."""
        first = min(self.sinks, num_tokens)
        return range(first, max(first, num_tokens - self.recent))

    def __str__(self) -> str:
        """The parts in the form that `parse` takes; the same recipe always reads the same."""
        near = f"near{self.sinks},{self.recent}" if not self.exact and (self.sinks, self.recent) != (16, 256) else ""
        parts = (self.sharing, self.selection, self.precision, self.coding, near)
        return "+".join(filter(None, map(str, parts))) or "exact"


_FORMS: Mapping[str, Callable[..., dict[str, Any]]] = {
    r"k(\d+)v(\d+)(h?)(s?)": lambda k, v, h, s: {"precision": Precision(int(k), int(v), bool(h), bool(s))},
    r"keep(\d+(?:\.\d+)?)(?::(\w+))?": lambda keep, by: {"selection": Selection(float(keep) / 100, by or "reread")},
    r"(A|B|linear)(\d+)(?:r(\d))?": lambda mode, saving, r: {"sharing": Sharing(mode, int(saving) / 100, int(r or 0))},
    r"coded(\d+)": lambda step: {"coding": Coding(int(step) / 100)},
    r"near(\d+),(\d+)": lambda sinks, recent: {"sinks": int(sinks), "recent": int(recent)},
}
"""How each part is written, and what of a recipe it is."""


def parse(text: str) -> Recipe:
    """A recipe from its name or its parts, such as `keep50+k4v4`. Raises RecipeUnknown, which says what there is.

    `k4v3` bits of keys and values (`h`: rotated; `s`: quantized while reading), `keep30:norm` share and policy, `A35`
    mode and saving, `linear35r2` with a residual of 2 bits, `coded30` in steps of 0.30 across layers, `near16,256`
    exact tokens.
    """
    recipe = Recipe()
    for part in NAMED.get(text, text).split("+") if text != "exact" else ():
        known = [made(*found.groups()) for form, made in _FORMS.items() if (found := re.fullmatch(form, part))]
        if not known:
            raise RecipeUnknown(
                f"{part!r} is no part of a recipe; recipes are {', '.join(NAMED)}, or parts: k4v4, k4v4hs, keep50, "
                "keep50:norm, A35, B35, linear35r2, coded30, near16,256, joined by +"
            )
        recipe = replace(recipe, **known[0])
    _check(recipe, text)
    return recipe


def _check(recipe: Recipe, text: str) -> None:
    """Raise RecipeUnknown for parts that do not exist or do not go together."""
    sharing, selection, precision = recipe.sharing, recipe.selection, recipe.precision
    wrong = ""
    if not {precision.keys, precision.values} <= set(BITS) or sharing.residual_bits not in (0, *BITS[:3]):
        wrong = f"bits are {', '.join(map(str, BITS))}, of a residual 2, 3 or 4"
    elif not 0 < selection.keep <= 1 or selection.policy not in POLICIES:
        wrong = f"keep 1 to 100 percent, by {', '.join(POLICIES)}"
    elif selection.summary and (sharing.mode or (not selection.by.rows and min(precision.keys, precision.values) < 16)):
        wrong = f"{selection.policy} goes with no keys that layers share, and subgen keeps its samples in 16 bits"
    elif sharing.mode and not 0 < sharing.saving < 0.5:
        wrong = "sharing keys can save 1 to 49 percent of keys and values"
    elif sharing.mode != "linear" and sharing.residual_bits:
        wrong = "only linear sharing has a residual"
    elif sharing.mode == "linear" and selection.drops:
        wrong = "linear sharing predicts a slot from every head of the root, so all of them must stay"
    elif precision.while_reading and min(precision.keys, precision.values) == 16:
        wrong = "16 bits leave nothing to quantize while reading"
    elif precision.while_reading and (selection.drops or sharing.mode):
        wrong = "quantizing while reading keeps every slot, and keys that no layers share"
    elif recipe.coding.step and (selection.drops or sharing.mode or min(precision.keys, precision.values) < 16):
        wrong = "what is coded across layers keeps every slot, in no other form"
    elif recipe.recent < 1:
        wrong = "at least the last token stays exact"
    if wrong:
        raise RecipeUnknown(f"{text!r} is no recipe: {wrong}")
