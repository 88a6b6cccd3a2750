"""Reader: a pod around a pod, of which each token of an answer attends only what the reader chooses for it.

What a reader wraps stays as it is; what it learns on the way is its own, so there is a new one for every question. The
question itself attends everything, which is one pass; only single tokens, those of the answer, attend chosen slots.
Letters: H query heads, G KV heads, T slots, B chosen slots, D head size.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.quant import rotated
from engine.kvcache.quantized import AnyPod, OpenPod, QuantizedPod
from engine.kvcache.segment import Segment

LEAST = 64
"""Slots that are attended where there are so many, however small the share."""


class Reader(ABC):
    """Chooses among the slots of exact pods, and among the distant ones of compressed pods, whose proximal slots are
    always attended. Layers with a window are left as they are.
    """

    def __init__(self, pod: AnyPod, share: float, layers: int) -> None:
        """`share`: of the slots of a layer, how many a token attends where it chooses; 1: all, as without a reader.

        Raises PodMismatch for pods whose KV heads hold different tokens, or keys that other layers ask.
        """
        recipe = pod.layout.recipe if isinstance(pod, QuantizedPod) else None
        mixed = recipe is not None and (recipe.selection.drops or recipe.sharing.mode == "A")
        if mixed or (isinstance(pod, OpenPod) and (pod.roots is not None or not pod.alike)):
            raise PodMismatch(
                "a reader chooses among tokens that every KV head of a layer holds and asks itself: take a recipe that "
                "keeps all tokens, such as exact or faithful"
            )
        self.pod, self.share, self.layers = pod, share, layers
        self.attended = 0
        """Slots that single tokens attended, and `met` those that there were, of all layers and tokens."""
        self.met = 0
        self.scanned = 0.0
        """Keys that were read beside those, only to choose: centroids and representatives count as keys."""
        self._last: dict[int, tuple[Tensor, Segment]] = {}

    @cached_property
    def _opened(self) -> AnyPod:
        return self.pod.open()

    @property
    def num_tokens(self) -> int:
        return self.pod.num_tokens

    @property
    def states(self) -> tuple[Tensor, ...]:
        return self.pod.states

    @property
    def nbytes(self) -> int:
        return self.pod.nbytes

    @property
    def device(self) -> torch.device:
        return self.pod.device

    @property
    def attended_share(self) -> float:
        """Of all slots that single tokens met, those that they attended; 1 before the first of them."""
        return self.attended / self.met if self.met else 1.0

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        """See AnyPod; on the query's device, wherever the pod is."""
        parts = self._opened.segments(layer)
        if query is None or not parts:
            return parts
        *near, far = parts
        slots, there = None, far.keys.shape[1] if isinstance(far.keys, Tensor) else 0
        budget = max(LEAST, int(self.share * there))
        if far.window is None and budget < there:
            asked = rotated(query, far.rotation).to(self.device)
            slots = (self.top_slots if query.shape[1] == 1 else self.observe)(layer, asked, far, budget)
        if query.shape[1] == 1:
            others = sum(each.keys.shape[1] for each in near if isinstance(each.keys, Tensor))
            self.met += others + there
            self.attended += others + (there if slots is None else slots.shape[-1])
        found = parts if slots is None else [*near, self.only(layer, far, slots)]
        return found if query.device == self.device else [placed(each, query.device) for each in found]

    def select(self, slots: Tensor) -> "AnyPod":
        return type(self)(self.pod.select(slots), self.share, self.layers)

    def open(self) -> "Reader":
        """The same for another answer, which knows nothing of this one."""
        return type(self)(self.pod, self.share, self.layers)

    @abstractmethod
    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        """Slots (B,), or (G, B) of each KV head, of at most `budget`, that the query (H, 1, D) of a single token
        attends; None: all."""

    def observe(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        """The same of the query (H, Q, D) of several tokens, which attend all unless a reader says otherwise."""
        return None

    def only(self, layer: int, far: Segment, slots: Tensor) -> Segment:
        """A segment of chosen slots; the same one as for the layer's last token where the slots are the same."""
        last = self._last.get(layer)
        if last is None or last[0] is not slots:
            last = self._last[layer] = slots, chosen(far, slots)
        return last[1]


def chosen(far: Segment, slots: Tensor) -> Segment:
    """The slots (B,), or (G, B) of each KV head, of a segment."""
    assert isinstance(far.keys, Tensor) and isinstance(far.values, Tensor) and isinstance(far.positions, Tensor)
    slots = slots.to(far.keys.device)
    places = far.positions[slots]
    if slots.ndim == 1:
        return replace(far, keys=far.keys[:, slots], values=far.values[:, slots], positions=places)
    rows = slots[..., None].expand(-1, -1, far.keys.shape[2])
    return replace(far, keys=far.keys.gather(1, rows), values=far.values.gather(1, rows), positions=tuple(places))


def placed(segment: Segment, device: torch.device) -> Segment:
    """A segment on another device."""
    assert isinstance(segment.keys, Tensor) and isinstance(segment.values, Tensor)
    keys, values = (each.to(device, non_blocking=True) for each in (segment.keys, segment.values))
    rotation = None if segment.rotation is None else segment.rotation.to(device)
    return replace(segment, keys=keys, values=values, rotation=rotation)


def logits(query: Tensor, keys: Tensor) -> Tensor:
    """Scores (G, H / G, Q, T) of queries (H, Q, D) over keys (G, T, D), divided by sqrt(D), in float32 at least."""
    heads, queries, dim = query.shape
    groups = len(keys)
    found = query.reshape(groups, -1, dim) @ keys.transpose(1, 2) * dim**-0.5
    wide: Tensor = found.to(torch.promote_types(found.dtype, torch.float32))
    return wide.view(groups, heads // groups, queries, -1)


def protected(tokens: int, budget: int) -> int:
    """The authors' number of first or last tokens that are always attended, or a quarter of the budget if less."""
    return min(tokens, budget // 4)


def layer_of(known: int, layers: int) -> int:
    """The layer that stands in a model of so many where `known` does in the authors' of 32."""
    return known * layers // 32
