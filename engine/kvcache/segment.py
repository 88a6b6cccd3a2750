"""Segment: what one layer meets in a part of a pod, for every KV head; its heads may have kept different slots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attention.sdpa import SegmentAttention, sliding
from engine.core.lse import capped
from engine.core.quant import rotated

Rows = Tensor | Sequence[Tensor]
"""(G, K, D), or one (K, D) per KV head where their numbers of slots differ."""


@dataclass(frozen=True)
class Window:
    """How many `tokens` a query sees, itself the last of them; and the position of a segment's `first` slot, behind
    which its others follow without a gap."""

    tokens: int
    first: int

    def hides(self, positions: Tensor, queries: Tensor) -> Tensor:
        """Which slots at positions (K,) queries at others (Q,) do not see any more: (Q, K) of bool."""
        return positions <= queries[:, None] - self.tokens


@dataclass(frozen=True)
class Segment:
    """Keys and values of a layer, and the position of every slot: (K,), or one such per KV head.

    `roots`: per KV head the layer whose queries meet the keys (PoD's mode A); None: this layer's own do.
    """

    keys: Rows
    values: Rows
    positions: Tensor | Sequence[Tensor]
    roots: tuple[int, ...] | None = None
    rotation: Tensor | None = None
    """An orthogonal, symmetric matrix (D, D) by which keys and values are rotated: queries are before they meet the
    keys, and what comes out is rotated back, which is far less than to rotate the slots."""
    window: Window | None = None

    def attend(
        self,
        attention: SegmentAttention,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
    ) -> tuple[Tensor, Tensor]:
        """Output (H, Q, D) and log-sum-exp (H, Q) of a layer's query (H, Q, D), whose first token stands at a position;
        `queries` are those of the roots."""
        if isinstance(self.keys, Tensor) and isinstance(self.values, Tensor) and self.roots is None:
            if self.window is not None:
                first = position - self.window.first
                return sliding(attention, query, self.keys, self.values, scale, self.window.tokens, first)
            out, lse = attention(self._rotated(query), self.keys, self.values, scale, False)
            return self._rotated(out), lse
        parts = []
        for group, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            asker = self._asker(group, query, queries)
            if not len(keys):
                # PyTorch's flash attention ends the process over a segment without slots.
                out = torch.zeros_like(asker)
                lse = torch.full(asker.shape[:2], -torch.inf, dtype=torch.float32, device=asker.device)
            else:
                out, lse = attention(asker, keys[None], values[None], scale, False)
            parts.append((out, lse))
        return self._rotated(torch.cat([part[0] for part in parts])), torch.cat([part[1] for part in parts])

    def logits(
        self,
        head: int,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
        softcap: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores (Q, K) of one query head, in float32, and the positions (K,) that they are of; see `attend`."""
        heads = len(query) // len(self.keys)
        group = head // heads
        asker = self._asker(group, query, queries)[head % heads]
        logits, places = capped((asker @ self.keys[group].T).float() * scale, softcap), self.places(group)
        if self.window is not None:
            hidden = self.window.hides(places, position + torch.arange(query.shape[1], device=places.device))
            logits = logits.masked_fill(hidden, -torch.inf)
        return logits, places

    def places(self, group: int) -> Tensor:
        """The positions (K,) of one KV head's slots."""
        return self.positions if isinstance(self.positions, Tensor) else self.positions[group]

    def _asker(self, group: int, query: Tensor, queries: Mapping[int, Tensor]) -> Tensor:
        """The queries (H / G, Q, D) that meet a KV head's keys."""
        return self._rotated(self._of(group, query if self.roots is None else queries[self.roots[group]]))

    def _rotated(self, rows: Tensor) -> Tensor:
        return rotated(rows, self.rotation)

    def _of(self, group: int, rows: Tensor) -> Tensor:
        """The rows of one KV head's query heads, out of all (H, ...)."""
        heads = len(rows) // len(self.keys)
        return rows[group * heads : (group + 1) * heads]
