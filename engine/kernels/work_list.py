"""Work list: which program of the attention kernel reads what, as tables at addresses that never change.

One list serves every layer of a model: (L, W) pieces of work, each a run of slots of one KV head that are stored alike,
so that a kernel recorded in a CUDA graph stays valid when other pods are put in front of it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import PodMismatch
from engine.kernels.stretches import FIELDS, FIRST, HEAD, LAYER, ROTATED, STOP, Format, Stretch, Stretches
from engine.precision import GROUP

NOTHING = -1
"""The kind of a piece where there is nothing to do."""
TAIL_SPAN = 128
"""Slots of the tail that one piece reads."""


class WorkList:
    """Tables of at most `capacity` pieces a layer of pods, and those of one tail (keys and values (L, G, slots, D)).

    `share` query heads share a KV head.
    """

    def __init__(self, tail: tuple[Tensor, Tensor], share: int, capacity: int) -> None:
        self.tail = tail
        self.share = share
        layers, self._heads, slots, _ = tail[0].shape
        device = tail[0].device
        self._tail_pieces = -(-slots // TAIL_SPAN)
        self.capacity = capacity + self._tail_pieces * self._heads
        self.pieces = torch.full((layers, self.capacity, FIELDS), NOTHING, dtype=torch.int64, device=device)
        self.ranges = torch.zeros(layers, self._heads, 3, dtype=torch.int32, device=device)
        """Per layer and KV head: its first piece, its first rotated one, and the end of its pieces."""
        self.formats: tuple[Format, ...] = ()
        self.turned = False
        """Whether anything is rotated."""
        self.grid = 0
        """Programs to start: pieces of the fullest layer, rounded up so that it rarely changes."""
        self.stretches: Sequence[Sequence[Stretch]] = [()] * layers
        """Of each layer, without the tail: keeps alive what the tables point to."""

    def fill(self, read: Stretches, target: int) -> None:
        """Cut what every layer reads into about `target` pieces of equal work, and write the tables."""
        self.stretches, self.formats, self.turned = read.by_layer, read.formats, read.turned
        layers, rows, pods = len(self.pieces), read.rows, read.pods
        # Every stretch is a piece at least.
        limit = np.maximum(target, np.bincount(rows[:pods, LAYER], minlength=layers))
        if int(limit.max()) > self.capacity - self._tail_pieces * self._heads:
            raise PodMismatch(f"{pods} stretches are too many for tables of {self.capacity} pieces a layer")
        slots = rows[:, STOP]
        spans = np.full(len(rows), TAIL_SPAN, dtype=np.int64)
        spans[:pods] = _spans(rows[:pods, LAYER], slots[:pods], read.work, limit)
        pieces = -(-slots // spans)
        order = np.lexsort((rows[:, ROTATED], rows[:, HEAD], rows[:, LAYER]))
        source = np.repeat(order, pieces[order])
        # Which piece of its stretch each one is.
        number = np.arange(len(source)) - np.repeat(np.cumsum(pieces[order]) - pieces[order], pieces[order])
        table = rows[source]
        table[:, FIRST] = number * spans[source]
        table[:, STOP] = np.minimum(table[:, FIRST] + spans[source], slots[source])
        self._write(table, layers)

    def _write(self, table: NDArray[np.int64], layers: int) -> None:
        """Spread pieces, sorted by layer, KV head and rotation, over the tables."""
        counts = np.bincount(table[:, LAYER], minlength=layers)
        most = int(counts.max())
        place = np.arange(len(table)) - np.repeat(np.cumsum(counts) - counts, counts)
        pieces = np.full((layers, self.capacity, FIELDS), NOTHING, dtype=np.int64)
        pieces[table[:, LAYER], place] = table[:, :FIELDS]
        ranges = np.zeros((layers, self._heads, 3), dtype=np.int32)
        by_head = np.zeros((layers, self._heads, 2), dtype=np.int64)
        np.add.at(by_head, (table[:, LAYER], table[:, HEAD], table[:, ROTATED]), 1)
        ends = by_head.sum(2).cumsum(1)
        ranges[..., 2] = ends
        ranges[..., 0] = ends - by_head.sum(2)
        ranges[..., 1] = ends - by_head[..., 1]
        self.pieces.copy_(torch.from_numpy(pieces))
        self.ranges.copy_(torch.from_numpy(ranges))
        self.grid = min(self.capacity, -(-most // 64) * 64)


def _spans(
    layer: NDArray[np.int64], slots: NDArray[np.int64], work: NDArray[np.int64], limit: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Slots per piece, a multiple of GROUP: in each layer the finest cut into at most `limit` (L,) pieces."""
    groups = -(-slots // GROUP)
    low, high = np.zeros(len(limit)), np.maximum(np.bincount(layer, work, minlength=len(limit)), 1.0)

    def cut(quantum: NDArray[np.float64]) -> NDArray[np.int64]:
        wanted = np.clip(np.ceil(work / quantum[layer]), 1, groups).astype(np.int64)
        return -(-groups // wanted) * GROUP

    for _ in range(16):
        middle = (low + high) / 2
        fits = np.bincount(layer, -(-slots // cut(middle)), minlength=len(limit)) <= limit
        high, low = np.where(fits, middle, high), np.where(fits, low, middle)
    return cut(high)
