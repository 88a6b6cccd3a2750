"""The question picks tokens at one layer, and everything behind goes on with these (PromptDistill, arXiv 2503.23274).

Layers up to the selection layer attend everything while the question is taken in; there, what its last token looks at
is averaged over neighbours, and the best tokens are kept. Layers above, and all layers for the answer, attend these.

    s_j = mean over |i - j| <= 2 of mean over heads h of softmax(q_h K / sqrt(d))_i at layer 13 of 32;   S = top_B s

Defaults as the authors': layer 13, a pool of 5. Different here: layers above attend keys that were read with all tokens
before them, since a pod is never made anew, where the authors compute the rest from the chosen hidden states; and the
budget is a share of the tokens (theirs 1,024). All layers are cut behind the question, as with their `truncation_end`.
"""

from torch import Tensor
from torch.nn.functional import avg_pool1d

from engine.kvcache.readers.base import Reader, layer_of, logits
from engine.kvcache.segment import Segment

LAYER = 13
POOL = 5


class PromptDistill(Reader):
    """See the module."""

    _slots: Tensor | None = None

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        return self._slots if self._slots is not None else self.observe(layer, query, far, budget)

    def observe(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        """Nothing below the selection layer, which chooses."""
        assert isinstance(far.keys, Tensor)
        if self._slots is None and layer >= layer_of(LAYER, self.layers):
            looks = logits(query[:, -1:], far.keys).softmax(-1).mean((0, 1))
            self._slots = avg_pool1d(looks, POOL, 1, POOL // 2, count_include_pad=False)[0].topk(budget).indices
            return None
        return self._slots
