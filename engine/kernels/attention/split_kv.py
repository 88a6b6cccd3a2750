"""Split-KV attention (flash decoding, arXiv 2311.01282) of a few new tokens over exact and packed keys and values.

Many programs read a split each, and one merges a row. Letters: H query heads, G KV heads, Q new tokens, D head size,
W splits of a layer, M = H / G * Q rows of a KV head.
"""

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.quant import GROUP, channel_group
from engine.kernels.attention.reduce import reduce_splits
from engine.kernels.attention.split_plan import SplitPlan
from engine.kernels.attention.tile_narrow import read_narrow_tile
from engine.kernels.attention.tile_ops import (
    DTYPES,
    FIELDS,
    FIRST,
    HEAD,
    IS_SUFFIX,
    KEY_SCALES,
    KEY_ZEROS,
    KEYS,
    KIND,
    LOG2_E,
    QUERY,
    STOP,
    VALUE_SCALES,
    VALUE_ZEROS,
    VALUES,
)
from engine.kernels.attention.tile_wide import read_wide_tile
from engine.kernels.card import Card, card_of
from engine.kernels.pdl import launch_dependents, wait_for_primary

_LARGE_SHARED = 160_000
"""Bytes of shared memory a block from which the tiles that are fastest on Hopper fit heads of 256, too."""


@dataclass(frozen=True)
class Tiling:
    """How the kernel is cut; the defaults were fastest for 32 query heads over 8 KV heads of 128 on an H100."""

    exact: int = 64
    """Exact slots that are read at once where there is nothing else."""
    packed: int = 64
    """Packed slots that are read at once; a multiple of 16 that divides GROUP."""
    beside: int = 32
    """Exact slots that are read at once beside packed ones: not more bytes than those."""
    warps: int = 4
    packed_warps: int = 2
    """Of a few rows."""
    exact_stages: int = 2
    packed_stages: int = 3
    rows: int = 64
    """Rows of queries that one program takes where there are many, 16 a warp."""
    programs: int = 5
    """For every multiprocessor of the GPU, over packed slots: what hides the latency of its memory."""
    exact_programs: int = 4
    """The same over exact slots alone."""
    wide_programs: int = 8
    """The same of all blocks of many rows together; over exact slots alone half as many."""
    merged: int = 32
    """Splits that are merged at once."""
    merging_warps: int = 2

    def fitted(self, card: Card, dim: int) -> "Tiling":
        """The same, in smaller tiles where heads of `dim` would need more shared memory than a card has."""
        if dim <= 128 or card.shared_bytes >= _LARGE_SHARED:
            return self
        return replace(self, exact=32, packed=32)

    def block(self, rows: int, dim: int, packed: bool, exactly: bool) -> tuple[int, int]:
        """Rows that a program takes, of so many of a KV head, and its warps. `exactly`: products are of float32."""
        # Twice 16 rows over packed slots cost less than once 64.
        if exactly or rows <= (32 if packed else 16):
            block = min(16, max(8, triton.next_power_of_2(rows)))
            few = packed and not exactly
            # A power of two, also where the head size is none.
            return block, self.packed_warps << max(1, block * dim // 1024).bit_length() - 1 if few else self.warps
        return self.rows, self.rows // 16 * (1 if dim <= 128 else 2)


@triton.jit
def _read_tile(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, row_mask,
    causal_stop, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    if ROWS <= 16:
        read_narrow_tile(
            queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows,
            row_mask, causal_stop, scale, KEY_BITS, VALUE_BITS, CAUSAL, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK,
            STAGES, WARPS, ASM, PRECISION,
        )  # fmt: skip
    else:
        read_wide_tile(
            queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows,
            row_mask, causal_stop, scale, KEY_BITS, VALUE_BITS, CAUSAL, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK,
            STAGES, ASM, PRECISION,
        )  # fmt: skip


@triton.jit
def _split_kv(
    splits, queries, outputs, sums, suffix_length, scale, count, kind, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr,
    D: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
    SHARE: tl.constexpr, EXACT_TOO: tl.constexpr, ROWS: tl.constexpr,
    EXACT_BLOCK: tl.constexpr, BLOCK: tl.constexpr, EXACT_STAGES: tl.constexpr, STAGES: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One split, for ROWS of the SHARE * count query rows of its KV head.

    Splits of another kind than `kind` (and EXACT, where EXACT_TOO) are another launch's.
    """
    number = tl.program_id(0)
    split = splits + number * FIELDS
    kind_here = tl.load(split + KIND)
    first, stop = tl.load(split + FIRST).to(tl.int32), tl.load(split + STOP).to(tl.int32)
    head, query = tl.load(split + HEAD), tl.load(split + QUERY)
    keys, values = tl.load(split + KEYS), tl.load(split + VALUES)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row_mask = rows < SHARE * count
    causal_stop = tl.full((ROWS,), 0x7FFFFFFF, tl.int32)
    queries += query + head * SHARE * count * D
    outputs += number.to(tl.int64) * SHARE * count * D
    sums += number * SHARE * count
    if PDL:
        # Queries and the suffix are of the launch before, and what is written may still be read by an older one.
        ready = wait_for_primary()
        launch_dependents()
        first += ready
        queries += ready
        outputs += ready
        sums += ready
        suffix_length += ready
    # Nested, since `and` would make a value of the GPU of what is known when the kernel is compiled.
    if EXACT_TOO:  # noqa: SIM102
        if kind_here == 0:
            if tl.load(split + IS_SUFFIX) != 0:
                # A new token sees the suffix up to itself.
                length = tl.load(suffix_length)
                causal_stop = length + rows % count + 1
                stop = tl.minimum(stop, length + count)
            exact: tl.constexpr = tl.pointer_type(DTYPE)
            k, v = tl.multiple_of(keys.to(exact), 16), tl.multiple_of(values.to(exact), 16)
            _read_tile(
                queries, outputs, sums, k, k, k, v, v, v, first, stop, rows, row_mask, causal_stop, scale,
                16, 16, True, DTYPE, WIDE, D, 1, GROUP, ROWS, EXACT_BLOCK, EXACT_STAGES, WARPS, ASM, PRECISION,
            )  # fmt: skip
    if KEY_BITS + VALUE_BITS < 32:  # noqa: SIM102
        if kind_here == kind:
            key_scales, key_zeros = tl.load(split + KEY_SCALES), tl.load(split + KEY_ZEROS)
            value_scales, value_zeros = tl.load(split + VALUE_SCALES), tl.load(split + VALUE_ZEROS)
            half: tl.constexpr = tl.pointer_type(tl.float16)
            key_type: tl.constexpr = tl.pointer_type(DTYPE if KEY_BITS == 16 else tl.int16)
            value_type: tl.constexpr = tl.pointer_type(DTYPE if VALUE_BITS == 16 else tl.int16)
            _read_tile(
                queries, outputs, sums, tl.multiple_of(keys.to(key_type), 16),
                tl.multiple_of(key_scales.to(half), 16), tl.multiple_of(key_zeros.to(half), 16),
                tl.multiple_of(values.to(value_type), 16),
                tl.multiple_of(value_scales.to(half), 16), tl.multiple_of(value_zeros.to(half), 16),
                first, stop, rows, row_mask, causal_stop, scale,
                KEY_BITS, VALUE_BITS, False, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK, STAGES, WARPS, ASM, PRECISION,
            )  # fmt: skip


def attend(
    work: SplitPlan,
    layer: int,
    queries: Tensor,
    count: int,
    suffix_length: Tensor,
    scale: float,
    tiling: Tiling,
) -> tuple[Tensor, Tensor]:
    """Output (H, Q, D) in the suffix cache's dtype and log-sum-exp (H, Q) of `count` new tokens in a layer.

    `queries` (2, L, H * most, D) in float32: plain and rotated ones, of each layer or, where L is 1, of this one; rows
    are (H, Q). The suffix cache holds `suffix_length` (1,) tokens and, behind them, the new ones.
    """
    keys = work.suffix[0]
    _, heads, _, dim = keys.shape
    rows = work.share * count
    packed = bool(work.formats)
    card = card_of(keys.device)
    tiling = tiling.fitted(card, dim)
    outputs = torch.empty(work.grid, rows, dim, device=keys.device)
    sums = torch.empty(work.grid, rows, device=keys.device)
    dtype = DTYPES[keys.dtype]
    block, warps = tiling.block(rows, dim, packed, dtype == tl.float32)
    for number, (key_bits, value_bits) in enumerate(work.formats or ((16, 16),), 1):
        _split_kv[work.grid, triton.cdiv(rows, block)](
            work.pieces[layer], queries, outputs, sums, suffix_length, scale * LOG2_E, count, number,
            KEY_BITS=key_bits, VALUE_BITS=value_bits, D=dim, DTYPE=dtype,
            WIDE=tl.float32 if dtype == tl.float32 else tl.float16,
            GROUPS=dim // channel_group(dim), GROUP=GROUP, SHARE=work.share, EXACT_TOO=number == 1,
            ROWS=block, EXACT_BLOCK=tiling.beside if packed else tiling.exact, BLOCK=tiling.packed,
            EXACT_STAGES=tiling.exact_stages, STAGES=tiling.packed_stages, WARPS=warps,
            ASM=card.ptx and dtype != tl.float32, PDL=card.pdl,
            PRECISION="ieee" if dtype == tl.float32 else "tf32", num_warps=warps, launch_pdl=card.pdl,
        )  # fmt: skip
    out = torch.empty(count, heads * work.share, dim, dtype=keys.dtype, device=keys.device)
    lse = torch.empty(heads * work.share, count, device=keys.device)
    reduce_splits[heads * rows,](
        out, lse, outputs, sums, work.ranges[layer], count, heads * work.share, SHARE=work.share, D=dim,
        WIDTH=triton.next_power_of_2(dim), BLOCK=tiling.merged, ROTATE=work.rotated, PDL=card.pdl,
        num_warps=tiling.merging_warps * (1 if dim <= 128 else 2), launch_pdl=card.pdl,
    )  # fmt: skip
    return out.transpose(0, 1), lse
