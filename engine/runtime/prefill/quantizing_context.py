"""PackedReading: a section read over its own packed past, so that no exact one has to fit in memory.

Every chunk is packed, layer by layer, as soon as that layer has attended it; later chunks meet it as a question will.
Letters as in engine.attention.sdpa.
"""

import torch
from torch import Tensor

from engine.attention import rotation
from engine.attention.cudnn import LEAST_TOKENS
from engine.attention.sdpa import SegmentAttention
from engine.core.lse import Seen
from engine.kvcache.quantized_store import PackedStore
from engine.kvcache.suffix import Tail
from engine.runtime.context import Context

RUN_TOKENS = 32768
"""Most far tokens that are unpacked at once, of one layer."""


class PackedReading(Context):
    """Attends what a store holds of the tokens before, and the new ones among themselves; keeps these in the store.

    The tail only counts tokens.
    """

    def __init__(self, store: PackedStore, attention: SegmentAttention) -> None:
        super().__init__((), Tail(store.shape, 0, store.device), attention)
        self._store = store
        self._turning = rotation.choose(store.device, store.shape.dtype)
        shape, most = store.shape, min(RUN_TOKENS, store.far(store.num_tokens))
        # One for all layers.
        self._scratch = torch.empty(2, shape.kv_heads * most * shape.head_dim, dtype=shape.dtype, device=store.device)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend near tokens, far ones run by run, and the new ones; keep the new keys and values."""
        start, count = self.tail.length, query.shape[1]
        # A single new token sees all of them.
        near = [self.attention(query, keys, values, scale, count > 1)]
        if self._store.near(start):
            near.append(self.attention(query, *self._store.exact(layer, start), scale, False))
        far = self._attend_far(layer, self._store.far(start), query, scale)
        self._store.put(layer, start, keys, values)
        return self._turning.merged(near, far, self._store.turn)

    def _attend_far(self, layer: int, far: int, query: Tensor, scale: float) -> list[Seen]:
        """What is seen of the first far tokens, by run, rotated as they are kept."""
        turn, seen = self._store.turn, []
        if far and turn is not None:
            # To turn the queries is far less than to turn every token back.
            query = self._turning.turned(query, turn)
        for first, stop in _runs(far):
            keys, values = self._room(stop - first)
            self._store.read(layer, first, stop, keys, values)
            seen.append(self.attention(query, keys, values, scale, False))
        return seen

    def _room(self, tokens: int) -> Tensor:
        """Room for keys and values (2, G, tokens, D); those of each lie in one piece, as attention likes them."""
        shape = self._store.shape
        size = shape.kv_heads * tokens * shape.head_dim
        return self._scratch[:, :size].view(2, shape.kv_heads, tokens, shape.head_dim)


def _runs(tokens: int) -> list[tuple[int, int]]:
    """The tokens as (start, stop) of runs that begin with a group: powers of two, for which attention has plans."""
    found, start = [], 0
    while start < tokens:
        left = min(tokens - start, RUN_TOKENS)
        size = left if left < LEAST_TOKENS else 1 << left.bit_length() - 1
        found.append((start, start + size))
        start += size
    return found
