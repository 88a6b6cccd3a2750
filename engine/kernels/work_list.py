"""Work list: which program of the attention kernel reads what, as tables at addresses that never change.

One list serves every layer of a model: (L, W) pieces of work, each a run of slots of one KV head that are stored alike,
so that a kernel recorded in a CUDA graph stays valid when other pods are put in front of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import PodMismatch
from engine.precision import GROUP, Packed

FIELDS = 13
KIND, FIRST, STOP, HEAD, QUERY, KEYS, VALUES, KEY_SCALES, KEY_ZEROS, VALUE_SCALES, VALUE_ZEROS, IS_TAIL, BEFORE = range(
    FIELDS
)
"""Of a piece; pointers are addresses, QUERY counts numbers from the start of the query buffer, and BEFORE the slots of
the same KV head in the stretches before."""
NOTHING, EXACT = -1, 0
"""Kinds of pieces; the others number the formats from 1."""
TAIL_SPAN = 256
"""Slots of the tail that one piece reads."""

Format = tuple[int, int]
"""Bits of keys and of values."""


@dataclass(frozen=True)
class Stretch:
    """Slots of one KV head of a layer that are stored alike: rows (K, D), exact or packed.

    `asker`: the layer whose queries meet the keys. `rotated`: keys and values are, by the Hadamard matrix.
    """

    head: int
    keys: Packed | Tensor
    values: Packed | Tensor
    asker: int
    rotated: bool = False

    @property
    def slots(self) -> int:
        """How many there are."""
        return len(_rows(self.keys))

    @property
    def format(self) -> Format:
        """Bits of keys and of values."""
        return _bits(self.keys), _bits(self.values)

    @property
    def slot_bytes(self) -> int:
        """About the bytes of one slot, scales left aside."""
        return sum(_rows(each)[:1].nbytes for each in (self.keys, self.values))


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

    def fill(self, stretches: Sequence[Sequence[Stretch]], query_stride: int, planes: int, target: int) -> None:
        """Cut the stretches of every layer into about `target` pieces of equal work, and write the tables.

        `query_stride` is the distance between two layers' queries, `planes` that between plain and rotated ones.
        """
        self.stretches = stretches
        layers = len(self.pieces)
        flat = [(layer, each) for layer in range(layers) for each in stretches[layer] if each.slots]
        self.formats = tuple(sorted({each.format for _, each in flat} - {(16, 16)}, reverse=True))
        self.turned = any(each.rotated for _, each in flat)
        rows = self._segments(flat, query_stride, planes)
        slots = rows[:, 1 + STOP]
        work = slots * np.array([each.slot_bytes for _, each in flat] + [1] * (len(rows) - len(flat)))
        # Every stretch is a piece at least.
        limit = np.maximum(target, np.bincount(rows[: len(flat), 0], minlength=layers))
        if int(limit.max()) > self.capacity - self._tail_pieces * self._heads:
            raise PodMismatch(f"{len(flat)} stretches are too many for tables of {self.capacity} pieces a layer")
        spans = _spans(rows[:, 0], slots, work, len(flat), limit, layers)
        pieces = -(-slots // spans)
        order = np.lexsort((rows[:, -1], rows[:, 1 + HEAD], rows[:, 0]))
        source = np.repeat(order, pieces[order])
        # Which piece of its stretch each one is.
        number = np.arange(len(source)) - np.repeat(np.cumsum(pieces[order]) - pieces[order], pieces[order])
        table = rows[source]
        table[:, 1 + FIRST] = number * spans[source]
        table[:, 1 + STOP] = np.minimum(table[:, 1 + FIRST] + spans[source], slots[source])
        self._write(table, layers)

    def _segments(self, flat: Sequence[tuple[int, Stretch]], query_stride: int, planes: int) -> NDArray[np.int64]:
        """Layer, the FIELDS of a piece, and whether it is rotated, for every stretch and then every tail."""
        kinds = {(16, 16): EXACT} | {each: number for number, each in enumerate(self.formats, 1)}
        rows = [
            (
                layer,
                *(kinds[each.format], 0, each.slots, each.head, each.asker * query_stride + each.rotated * planes),
                *(_rows(each.keys).data_ptr(), _rows(each.values).data_ptr()),
                *_scales(each.keys),
                *_scales(each.values),
                *(0, before, int(each.rotated)),
            )
            for (layer, each), before in zip(flat, _slots_before(flat), strict=True)
        ]
        keys, values = self.tail
        for layer in range(len(self.pieces)):
            for head in range(self._heads):
                where = keys[layer, head].data_ptr(), values[layer, head].data_ptr()
                stop = keys.shape[2]
                rows.append((layer, EXACT, 0, stop, head, layer * query_stride, *where, 0, 0, 0, 0, 1, 0, 0))
        return np.array(rows, dtype=np.int64)

    def _write(self, table: NDArray[np.int64], layers: int) -> None:
        """Spread pieces, sorted by layer, KV head and rotation, over the tables."""
        counts = np.bincount(table[:, 0], minlength=layers)
        most = int(counts.max())
        place = np.arange(len(table)) - np.repeat(np.cumsum(counts) - counts, counts)
        pieces = np.full((layers, self.capacity, FIELDS), NOTHING, dtype=np.int64)
        pieces[table[:, 0], place] = table[:, 1:-1]
        ranges = np.zeros((layers, self._heads, 3), dtype=np.int32)
        by_head = np.zeros((layers, self._heads, 2), dtype=np.int64)
        np.add.at(by_head, (table[:, 0], table[:, 1 + HEAD], table[:, -1]), 1)
        ends = by_head.sum(2).cumsum(1)
        ranges[..., 2] = ends
        ranges[..., 0] = ends - by_head.sum(2)
        ranges[..., 1] = ends - by_head[..., 1]
        self.pieces.copy_(torch.from_numpy(pieces))
        self.ranges.copy_(torch.from_numpy(ranges))
        self.grid = min(self.capacity, -(-most // 64) * 64)


def _spans(
    layer: NDArray[np.int64],
    slots: NDArray[np.int64],
    work: NDArray[np.int64],
    pods: int,
    limit: NDArray[np.int64],
    layers: int,
) -> NDArray[np.int64]:
    """Slots per piece, a multiple of GROUP: in each layer the finest cut into at most `limit` (L,) pieces of pods."""
    spans = np.full(len(slots), TAIL_SPAN, dtype=np.int64)
    if not pods:
        return spans
    of, slots, work = layer[:pods], slots[:pods], work[:pods]
    groups = -(-slots // GROUP)
    most = np.bincount(of, work, minlength=layers)
    low, high = np.zeros(layers), np.maximum(most, 1.0)

    def cut(quantum: NDArray[np.float64]) -> NDArray[np.int64]:
        wanted = np.clip(np.ceil(work / quantum[of]), 1, groups).astype(np.int64)
        return -(-groups // wanted) * GROUP

    for _ in range(24):
        middle = (low + high) / 2
        fits = np.bincount(of, -(-slots // cut(middle)), minlength=layers) <= limit
        high, low = np.where(fits, middle, high), np.where(fits, low, middle)
    spans[:pods] = cut(high)
    return spans


def _slots_before(flat: Sequence[tuple[int, Stretch]]) -> Iterator[int]:
    """For every stretch, the slots in those of the same layer and KV head that come before it."""
    held: dict[tuple[int, int], int] = {}
    for layer, each in flat:
        before = held.get((layer, each.head), 0)
        held[layer, each.head] = before + each.slots
        yield before


def _rows(each: Packed | Tensor) -> Tensor:
    return each.codes if isinstance(each, Packed) else each


def _bits(each: Packed | Tensor) -> int:
    return each.bits if isinstance(each, Packed) else 16


def _scales(each: Packed | Tensor) -> tuple[int, int]:
    return (each.scales.data_ptr(), each.zeros.data_ptr()) if isinstance(each, Packed) and each.bits < 16 else (0, 0)
