"""Stretches: what every layer of a model reads, as rows of numbers and addresses that kernels understand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.precision import Packed

FIELDS = 13
KIND, FIRST, STOP, HEAD, QUERY, KEYS, VALUES, KEY_SCALES, KEY_ZEROS, VALUE_SCALES, VALUE_ZEROS, IS_TAIL, BEFORE = range(
    FIELDS
)
"""Of a piece of work; pointers are addresses, QUERY counts numbers from the start of the query buffer, and BEFORE the
slots of the same KV head in the stretches before."""
LAYER, ROTATED = FIELDS, FIELDS + 1
"""What a row says besides."""
EXACT = 0
"""The kind of exact keys and values; other kinds number the formats from 1."""

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


class Stretches:
    """Those of every layer, and behind them the tail of each KV head (keys and values (L, G, slots, D))."""

    def __init__(
        self, by_layer: Sequence[Sequence[Stretch]], tail: tuple[Tensor, Tensor], query_stride: int, planes: int
    ) -> None:
        """`query_stride` is the distance of two layers' queries, `planes` that of plain and rotated ones."""
        self.by_layer = by_layer
        """Keeps alive what the rows point to."""
        rows: list[tuple[int, ...]] = []
        formats: list[Format] = []
        work: list[int] = []
        for layer, stretches in enumerate(by_layer):
            before = [0] * tail[0].shape[1]
            for each in stretches:
                keys, key_bits, *key_scales = _parts(each.keys)
                values, value_bits, *value_scales = _parts(each.values)
                slots = keys.shape[0]
                if not slots:
                    continue
                query = each.asker * query_stride + each.rotated * planes
                where = keys.data_ptr(), values.data_ptr(), *key_scales, *value_scales
                rows.append((0, 0, slots, each.head, query, *where, 0, before[each.head], layer, int(each.rotated)))
                formats.append((key_bits, value_bits))
                work.append(slots * (keys.shape[1] * keys.itemsize + values.shape[1] * values.itemsize))
                before[each.head] += slots
        self.formats = tuple(sorted(set(formats) - {(16, 16)}, reverse=True))
        """Those in few bits."""
        kinds = {(16, 16): EXACT} | {each: number for number, each in enumerate(self.formats, 1)}
        self.pods = len(rows)
        """Rows of pods; the others are tails."""
        held = np.array(rows, dtype=np.int64).reshape(-1, FIELDS + 2)
        held[:, KIND] = [kinds[each] for each in formats]
        self.turned = bool(held[:, ROTATED].any())
        """Whether anything is rotated."""
        self.rows: NDArray[np.int64] = np.concatenate([held, _tails(tail, query_stride)])
        self.work = np.array(work, dtype=np.int64)
        """Bytes of each pod's row, scales left aside."""


def _tails(tail: tuple[Tensor, Tensor], query_stride: int) -> NDArray[np.int64]:
    """A row for every layer's and KV head's tail."""
    layers, heads, slots, dim = tail[0].shape
    rows = np.zeros((layers, heads, FIELDS + 2), dtype=np.int64)
    numbers = np.arange(layers)[:, None]
    rows[..., STOP], rows[..., IS_TAIL], rows[..., KIND] = slots, 1, EXACT
    rows[..., LAYER], rows[..., HEAD], rows[..., QUERY] = numbers, np.arange(heads), numbers * query_stride
    at = (numbers * heads + np.arange(heads)) * slots * dim * tail[0].itemsize
    rows[..., KEYS], rows[..., VALUES] = (at + each.data_ptr() for each in tail)
    return rows.reshape(-1, FIELDS + 2)


def _parts(rows: Packed | Tensor) -> tuple[Tensor, int, int, int]:
    """The rows or their codes, their bits, and the addresses of scales and zero points."""
    if not isinstance(rows, Packed):
        return rows, 16, 0, 0
    if rows.bits == 16:
        return rows.codes, 16, 0, 0
    return rows.codes, rows.bits, rows.scales.data_ptr(), rows.zeros.data_ptr()
