"""PackedReading: a section read over its own packed past, so that no exact one has to fit in memory.

Every chunk is packed, layer by layer, as soon as that layer has attended it; later chunks meet it as a question will.
Letters as in engine.attention.
"""

import torch
from torch import Tensor

from engine.attention import SegmentAttention, merge
from engine.context import Context
from engine.cudnn_attention import LEAST_TOKENS
from engine.packed_store import PackedStore
from engine.tail import Tail

RUN_TOKENS = 32768
"""Most far tokens that are unpacked at once, of one layer."""


class PackedReading(Context):
    """Attends what a store holds of the tokens before, and the new ones among themselves; keeps these in the store.

    The tail only counts tokens.
    """

    def __init__(self, store: PackedStore, attention: SegmentAttention) -> None:
        super().__init__((), Tail(store.shape, 0, store.device), attention)
        self._store = store
        shape, most = store.shape, min(RUN_TOKENS, store.far(store.num_tokens))
        # One for all layers.
        self._scratch = torch.empty(2, shape.kv_heads * most * shape.head_dim, dtype=shape.dtype, device=store.device)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend far tokens run by run, then near and new ones; keep the new keys and values."""
        start, count = self.tail.length, query.shape[1]
        near = [torch.cat(pair, 1) for pair in zip(self._store.exact(layer, start), (keys, values), strict=True)]
        # A single new token sees all of them.
        parts = [self.attention(query, near[0], near[1], scale, count > 1)]
        if far := self._store.far(start):
            parts.append(self._attend_far(layer, far, query, scale))
        self._store.put(layer, start, keys, values)
        return merge(parts)[0]

    def _attend_far(self, layer: int, far: int, query: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Output (H,Q,D) and log-sum-exp (H,Q) over the first far tokens."""
        # To turn the queries is far less than to turn every token back.
        asking = self._turned(query).contiguous()
        parts = []
        for first, stop in _runs(far):
            keys, values = self._room(stop - first)
            self._store.read(layer, first, stop, keys, values)
            parts.append(self.attention(asking, keys, values, scale, False))
        out, lse = merge(parts)
        return self._turned(out), lse

    def _room(self, tokens: int) -> Tensor:
        """Room for keys and values (2, G, tokens, D); those of each lie in one piece, as attention likes them."""
        shape = self._store.shape
        size = shape.kv_heads * tokens * shape.head_dim
        return self._scratch[:, :size].view(2, shape.kv_heads, tokens, shape.head_dim)

    def _turned(self, rows: Tensor) -> Tensor:
        turn = self._store.turn
        return rows if turn is None else (rows.float() @ turn).to(rows.dtype)


def _runs(tokens: int) -> list[tuple[int, int]]:
    """The tokens as (start, stop) of runs that begin with a group: powers of two, for which attention has plans."""
    found, start = [], 0
    while start < tokens:
        left = min(tokens - start, RUN_TOKENS)
        size = left if left < LEAST_TOKENS else 1 << left.bit_length() - 1
        found.append((start, start + size))
        start += size
    return found
