"""KVRanges: what every layer of a model reads, as rows of numbers and addresses that kernels understand.

A stretch is the slots of one KV head of a layer that are stored alike. Letters: L layers, G KV heads, T slots, D head
size.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

FIELDS = 13
KIND, FIRST, STOP, HEAD, QUERY, KEYS, VALUES, KEY_SCALES, KEY_ZEROS, VALUE_SCALES, VALUE_ZEROS, IS_SUFFIX, BEFORE = (
    range(FIELDS)
)
"""Of a piece of work; pointers are addresses, QUERY counts numbers from the start of the query buffer, and BEFORE the
slots of the same KV head in the stretches before."""
COLUMNS = FIELDS + 6
LAYER, ROTATED, ASKER, KEY_BITS, VALUE_BITS, BYTES = range(FIELDS, COLUMNS)
"""What a row says besides: ASKER is the layer whose queries meet the keys, BYTES are those of keys and values, scales
left aside."""
EXACT = 0
"""The kind of exact keys and values; other kinds number the formats from 1."""

Format = tuple[int, int]
"""Bits of keys and of values."""
Rows = NDArray[np.int64]


class KVRanges:
    """Those of several pods, and behind them the suffix cache of each KV head, sorted by layer."""

    def __init__(self, pods: Sequence[Rows], suffix: tuple[Tensor, Tensor], query_stride: int, planes: int) -> None:
        """`pods` are those of `ranges_of`, `suffix` keys and values (L, G, T, D).

        `query_stride` is the distance of two layers' queries, `planes` that of plain and rotated ones.
        """
        last = exact_ranges(*suffix)
        last[..., IS_SUFFIX] = 1
        rows = np.concatenate([*pods, last], 1)
        slots = rows[..., STOP]
        rows[..., BEFORE] = slots.cumsum(1) - slots
        rows[..., QUERY] = rows[..., ASKER] * query_stride + rows[..., ROTATED] * planes
        kinds = rows[..., KEY_BITS] * 32 + rows[..., VALUE_BITS]
        held = slots > 0
        few = [divmod(int(kind), 32) for kind in np.unique(kinds[held])[::-1]]
        self.formats: tuple[Format, ...] = tuple(each for each in few if each != (16, 16))
        """Those in few bits."""
        for number, (key_bits, value_bits) in enumerate(self.formats, 1):
            rows[kinds == key_bits * 32 + value_bits, KIND] = number
        self.rows: Rows = rows[held]
        """(N, COLUMNS)."""
        self.rotated = bool(self.rows[:, ROTATED].any())
        """Whether anything is rotated."""
        self.slots = (slots * (1 - rows[..., IS_SUFFIX])).sum(1)
        """Slots of pods by layer and KV head (L, G)."""


def exact_ranges(keys: Tensor, values: Tensor) -> Rows:
    """KVRanges (L, 1, G, COLUMNS) of exact keys and values (L, G, T, D), contiguous in T and D."""
    layers, heads, slots, dim = keys.shape
    rows = blank(layers, heads)
    rows[..., STOP], rows[..., BYTES] = slots, 2 * slots * dim * keys.itemsize
    for column, each in ((KEYS, keys), (VALUES, values)):
        places = rows[..., LAYER] * each.stride(0) + rows[..., HEAD] * each.stride(1)
        rows[..., column] = each.data_ptr() + places * each.itemsize
    return rows


def blank(layers: int, heads: int) -> Rows:
    """Rows (L, 1, G, COLUMNS) of stretches in 16 bits that say no more than whose they are."""
    rows = np.zeros((layers, 1, heads, COLUMNS), dtype=np.int64)
    rows[..., LAYER] = rows[..., ASKER] = np.arange(layers)[:, None, None]
    rows[..., HEAD] = np.arange(heads)
    rows[..., KEY_BITS] = rows[..., VALUE_BITS] = 16
    return rows
