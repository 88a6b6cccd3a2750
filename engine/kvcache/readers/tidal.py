"""Two layers choose the tokens that the layers above them attend (TidalDecode, arXiv 2410.05076).

Layers 0 and 1 attend everything; so does layer 2, which takes the tokens that all its heads together look at most. The
layers behind it attend these, until one correction layer attends everything and chooses anew for the rest.

    S = top_B over j of sum over heads h of softmax(q_h K / sqrt(d))_j, at layers 2 and c;   behind them: over S

Defaults as the authors': layer 2, correction at 13 of 32. Different here: heads that share keys (GQA), which their
kernels lack, add to one sum; the budget is a share of the tokens; and only the choosing layers are full, so four of L.
"""

from torch import Tensor

from engine.kvcache.readers.base import Reader, layer_of, logits
from engine.kvcache.segment import Segment

FIRST = 2
CORRECTION = 13


class TidalDecode(Reader):
    """See the module."""

    _slots: Tensor | None = None

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        assert isinstance(far.keys, Tensor)
        if layer < FIRST:
            return None
        if layer in (FIRST, layer_of(CORRECTION, self.layers)) or self._slots is None:
            self._slots = logits(query, far.keys).softmax(-1).sum((0, 1, 2)).topk(budget).indices
            return None
        return self._slots
