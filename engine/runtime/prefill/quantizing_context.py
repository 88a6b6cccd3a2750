"""QuantizingContext: a section read over its own packed past, so that no exact one has to fit in memory.

Every chunk is packed, layer by layer, as soon as that layer has attended it; later chunks meet it as a question will.
Letters as in engine.attention.sdpa.
"""

import torch
from torch import Tensor

from engine.attention import rotation
from engine.attention.cudnn import runs
from engine.attention.sdpa import SegmentAttention
from engine.core.lse import AttentionState
from engine.kvcache.quantized_store import QuantizedStore
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context

RUN_TOKENS = 32768
"""Most distant tokens that are unpacked at once, of one layer."""


class QuantizingContext(Context):
    """Attends what a store holds of the tokens before, and the new ones among themselves; keeps these in the store.

    The tail only counts tokens.
    """

    def __init__(self, store: QuantizedStore, attention: SegmentAttention) -> None:
        super().__init__((), SuffixCache(store.shape, 0, store.device), attention)
        self._store = store
        self._rotation = rotation.select_rotation(store.device, store.shape.dtype)
        shape, most = store.shape, min(RUN_TOKENS, store.distant(store.num_tokens))
        # One for all layers.
        self._scratch = torch.empty(2, shape.kv_heads * most * shape.head_dim, dtype=shape.dtype, device=store.device)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend proximal tokens, distant ones run by run, and the new ones; keep the new keys and values."""
        start, count = self.suffix.length, query.shape[1]
        # A single new token sees all of them.
        proximal = [self.attention(query, keys, values, scale, count > 1)]
        if self._store.proximal(start):
            proximal.append(self.attention(query, *self._store.exact(layer, start), scale, False))
        distant = self._attend_distant(layer, self._store.distant(start), query, scale)
        self._store.put(layer, start, keys, values)
        return self._rotation.merge_rotated(proximal, distant, self._store.rotation)

    def _attend_distant(self, layer: int, distant: int, query: Tensor, scale: float) -> list[AttentionState]:
        """What is seen of the first distant tokens, by run, rotated as they are kept."""
        rotation, seen = self._store.rotation, []
        if distant and rotation is not None:
            # To turn the queries is far less than to turn every token back.
            query = self._rotation.rotate(query, rotation)
        for first, stop in runs(distant, RUN_TOKENS):
            keys, values = self._room(stop - first)
            self._store.read(layer, first, stop, keys, values)
            seen.append(self.attention(query, keys, values, scale, False))
        return seen

    def _room(self, tokens: int) -> Tensor:
        """Room for keys and values (2, G, tokens, D); those of each lie in one piece, as attention likes them."""
        shape = self._store.shape
        size = shape.kv_heads * tokens * shape.head_dim
        return self._scratch[:, :size].view(2, shape.kv_heads, tokens, shape.head_dim)
