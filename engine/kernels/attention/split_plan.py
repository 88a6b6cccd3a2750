"""Split plan: which program of the attention kernel reads what, as tables at addresses that never change.

One list serves every layer of a model: (L, W) pieces of work, each a run of slots of one KV head that are stored alike,
so that a kernel recorded in a CUDA graph stays valid when other pods are put in front of it, as long as W is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.quant import GROUP
from engine.kernels.attention.kv_ranges import (
    BYTES,
    FIELDS,
    FIRST,
    HEAD,
    IS_SUFFIX,
    LAYER,
    ROTATED,
    STOP,
    Format,
    KVRanges,
    Rows,
)

NOTHING = -1
"""The kind of a piece where there is nothing to do."""
SUFFIX_SPAN = 128
"""Slots of the suffix cache that one piece reads."""
_STEP = 64
"""Programs are started in multiples of this, so that their number rarely changes."""


@dataclass(frozen=True)
class Plan:
    """What a SplitPlan has in its tables for some pods: kept, it need not be worked out again."""

    table: Tensor
    grid: int
    formats: tuple[Format, ...]
    rotated: bool
    slots: NDArray[np.int64]


class SplitPlan:
    """Tables of at most `most` pieces a layer of pods, and those of one suffix cache (keys, values (L, G, slots, D)).

    `share` query heads share a KV head.
    """

    def __init__(self, suffix: tuple[Tensor, Tensor], share: int, most: int) -> None:
        self.suffix = suffix
        self.share = share
        self.most = most
        layers, heads, slots, _ = suffix[0].shape
        device = suffix[0].device
        self._layers, self._heads = layers, heads
        capacity = _up(most + -(-slots // SUFFIX_SPAN) * heads, _STEP)
        # Ranges, then pieces, in one piece of memory: one copy brings both from the host.
        self._start = _up(layers * heads * 3, 4) // 2
        self._table = torch.zeros(self._start + layers * capacity * FIELDS, dtype=torch.int64, device=device)
        self._host = torch.zeros(self._table.shape, dtype=torch.int64, pin_memory=device.type == "cuda")
        event: Any = torch.cuda.Event
        self._sent = event() if device.type == "cuda" else None
        self.ranges = self._table.view(torch.int32)[: layers * heads * 3].view(layers, heads, 3)
        """Per layer and KV head: its first piece, its first rotated one, and the end of its pieces."""
        self.pieces = self._places(self._table, 0)
        """(L, grid, FIELDS)."""
        self.formats: tuple[Format, ...] = ()
        self.rotated = False
        """Whether anything is rotated."""
        self.slots: NDArray[np.int64] = np.zeros((layers, heads), dtype=np.int64)
        """Slots of pods by layer and KV head."""
        self.pods: Sequence[object] = ()
        """What the rows point into, held while it is attended; kernels do not look at it."""

    @property
    def grid(self) -> int:
        """Programs to start: pieces of the fullest layer, and at least as many as a long document is cut into.

        So a passage and a document of the same formats have the same grid, and share what is captured.
        """
        return self.pieces.shape[1]

    @property
    def plan(self) -> Plan:
        """What `show` brings back."""
        table = self._table[: self._start + self.pieces.numel()].clone()
        return Plan(table, self.grid, self.formats, self.rotated, self.slots)

    def show(self, plan: Plan) -> None:
        """Put back what was there when `plan` was taken."""
        self._table[: len(plan.table)].copy_(plan.table)
        self.pieces = self._places(self._table, plan.grid)
        self.formats, self.rotated, self.slots = plan.formats, plan.rotated, plan.slots

    def fill(self, read: KVRanges, target: int) -> None:
        """Cut what every layer reads into about `target` pieces of equal work, and write the tables.

        Raises PodMismatch where there are too many stretches.
        """
        rows = read.rows[np.lexsort((read.rows[:, ROTATED], read.rows[:, HEAD], read.rows[:, LAYER]))]
        of_pods = rows[:, IS_SUFFIX] == 0
        # Every stretch is a piece at least.
        limit = np.maximum(target, np.bincount(rows[of_pods, LAYER], minlength=self._layers))
        if int(limit.max()) > self.most:
            raise PodMismatch(f"{of_pods.sum()} stretches are too many for tables of {self.most} pieces a layer")
        spans = np.full(len(rows), SUFFIX_SPAN, dtype=np.int64)
        spans[of_pods] = _spans(rows[of_pods], limit)
        self.formats, self.rotated, self.slots = read.formats, read.rotated, read.slots
        self._write(rows, spans, target + -(-self.suffix[0].shape[2] // SUFFIX_SPAN) * self._heads)

    def _write(self, rows: Rows, spans: NDArray[np.int64], least: int) -> None:
        """Cut rows, sorted by layer, KV head and rotation, into pieces of so many slots, and send them with at least so
        many places a layer."""
        if self._sent is not None:
            # What was sent before must have left the host's memory.
            self._sent.synchronize()
        pieces = -(-rows[:, STOP] // spans)
        counts = np.bincount(rows[:, LAYER], pieces, self._layers).astype(np.int64)
        grid = _up(max(least, int(counts.max())), _STEP)
        made = np.repeat(rows[:, :FIELDS], pieces, 0)
        # Which piece of its range each one is.
        number = np.arange(len(made)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        span = np.repeat(spans, pieces)
        made[:, FIRST] = first = number * span
        made[:, STOP] = np.minimum(first + span, made[:, STOP])
        table, fewest = self._places(self._host, grid).numpy(), int(counts.min())
        table[:, fewest:] = NOTHING
        if fewest == counts.max():
            table[:, :fewest] = made.reshape(self._layers, fewest, FIELDS)
        else:
            table[np.arange(grid) < counts[:, None]] = made
        place = (rows[:, LAYER] * self._heads + rows[:, HEAD]) * 2 + rows[:, ROTATED]
        by_head = np.bincount(place, pieces, self._layers * self._heads * 2).reshape(self._layers, self._heads, 2)
        ends = by_head.sum(2).cumsum(1)
        ranges = self._host.view(torch.int32)[: self.ranges.numel()].view(self.ranges.shape).numpy()
        ranges[...] = np.stack([ends - by_head.sum(2), ends - by_head[..., 1], ends], 2)
        stop_at = self._start + table.size
        self._table[:stop_at].copy_(self._host[:stop_at], non_blocking=True)
        if self._sent is not None:
            self._sent.record()
        self.pieces = self._places(self._table, grid)

    def _places(self, table: Tensor, grid: int) -> Tensor:
        """Where so many pieces a layer stand: (L, grid, FIELDS)."""
        size = self._layers * grid * FIELDS
        return table[self._start : self._start + size].view(self._layers, grid, FIELDS)


def _spans(rows: Rows, limit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slots per piece, a multiple of GROUP: in each layer about the finest cut into at most `limit` (L,) pieces."""
    layer, work = rows[:, LAYER], rows[:, BYTES]
    groups = -(-rows[:, STOP] // GROUP)
    total = np.maximum(np.bincount(layer, work, len(limit)), 1.0)
    # Each stretch may take up to a piece more than its share of the work.
    high = total / np.maximum(limit - np.bincount(layer, minlength=len(limit)), 1)
    # Whole groups make fewer pieces than were wanted.
    low = total / limit / 2

    def cut(quantum: NDArray[np.float64]) -> NDArray[np.int64]:
        wanted = np.minimum(np.maximum(np.ceil(work / quantum[layer]), 1), groups).astype(np.int64)
        return -(-groups // wanted)

    for _ in range(8):
        middle = np.sqrt(low * high)
        fits = np.bincount(layer, -(-groups // cut(middle)), len(limit)) <= limit
        high, low = np.where(fits, middle, high), np.where(fits, low, middle)
    return cut(high) * GROUP


def _up(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step
