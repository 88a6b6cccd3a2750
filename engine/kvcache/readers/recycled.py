"""Attend what the last full step attended most (Recycled Attention, arXiv 2411.05787).

Every S-th token attends everything, and each KV head of each layer remembers the tokens that got the most attention.
The tokens between attend those alone; the question's last token is the first full step.

    step t full: S_g = top_B over j of sum over heads h of g of softmax(q_h K / sqrt(d))_j;   t+1..t+S-1: over S_g

Defaults: the authors' code could not be read; every 32nd token is full here. Different here: a schedule alone, without
their full steps where the query has turned; the answer's own tokens are always attended.
"""

from torch import Tensor

from engine.kvcache.readers.base import Reader, logits
from engine.kvcache.segment import Segment

STRIDE = 32


class RecycledAttention(Reader):
    """See the module."""

    def __init__(self, *facts: object) -> None:
        super().__init__(*facts)  # type: ignore[arg-type]
        self._slots: dict[int, Tensor] = {}
        self._age: dict[int, int] = {}

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        if layer not in self._slots or self._age[layer] == STRIDE - 1:
            self.observe(layer, query, far, budget)
            return None
        self._age[layer] += 1
        return self._slots[layer]

    def observe(self, layer: int, query: Tensor, far: Segment, budget: int) -> None:
        """What the last of the tokens looks at is remembered."""
        assert isinstance(far.keys, Tensor)
        self._age[layer] = 0
        self._slots[layer] = logits(query[:, -1:], far.keys).softmax(-1).sum((1, 2)).topk(budget).indices
