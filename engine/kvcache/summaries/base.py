"""Summary: what a layer keeps of the distant slots that do not stay, and the segment that it is attended as."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from engine.core.kv_shape import KVShape
from engine.kvcache.exact import Pod
from engine.kvcache.recipe import Selection
from engine.kvcache.segment import Segment

Field = tuple[torch.dtype, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Learned:
    """What was trained for a model, by name, each with a leading L."""

    tensors: Mapping[str, Tensor]

    @cached_property
    def digest(self) -> str:
        """sha256 over all of it."""
        total = hashlib.sha256()
        for name in sorted(self.tensors):
            total.update(name.encode() + self.tensors[name].cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()


UNTRAINED = Learned({})


class Summary(Protocol):
    """A module of this package.

    What it makes it also attends: a segment gives an output and a log-sum-exp of its own, which are merged with those
    of all others, so that it need not be keys and values.
    """

    def fields(self, shape: KVShape, selection: Selection, distant: int) -> Sequence[Field]:
        """Dtype and shape of each tensor that a layer keeps of so many distant tokens."""

    def make(
        self, exact: Pod, far: range, kept: Tensor, selection: Selection, learned: Mapping[str, Tensor]
    ) -> Iterator[tuple[Tensor, ...]]:
        """Those tensors of each layer, from the exact pod and which distant slots (L, G, F) stay."""

    def segment(self, layer: int, parts: Sequence[Tensor], learned: Mapping[str, Tensor]) -> Segment:
        """What a layer attends to for its tensors."""
