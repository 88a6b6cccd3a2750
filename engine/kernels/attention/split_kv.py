"""Attention of a few new tokens over everything in a work list: many programs read a piece each, one merges a row.

Letters: H query heads, G KV heads, Q new tokens, D head dim, W pieces of a layer, M = H / G * Q rows of a KV head.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.quant import GROUP, channel_group
from engine.kernels.attention.reduce import merge
from engine.kernels.attention.split_plan import SplitPlan
from engine.kernels.attention.tile_narrow import read_narrow_tile
from engine.kernels.attention.tile_wide import read_wide_tile
from engine.kernels.pdl import supports_pdl, wait_for_primary


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
    registers: int | None = None
    """Most of them for a thread of few rows over packed slots, if the compiler is to be held to that."""
    merged: int = 32
    """Pieces that are merged at once."""
    merging_warps: int = 2
    assembly: bool = True
    """Take codes apart by two-lane instructions of the GPU instead of Triton's own."""
    pdl: bool = True
    """Let a launch begin while the one before it ends, where the GPU can."""

    def block(self, rows: int, dim: int, packed: bool, exactly: bool) -> tuple[int, int]:
        """Rows that a program takes, of so many of a KV head, and its warps. `exactly`: products are of float32."""
        # Twice 16 rows over packed slots cost less than once 64.
        if exactly or rows <= (32 if packed else 16):
            block = min(16, max(8, triton.next_power_of_2(rows)))
            few = packed and not exactly
            return block, self.packed_warps * max(1, block * dim // 1024) if few else self.warps
        return self.rows, self.rows // 16 * (1 if dim <= 128 else 2)


@triton.jit
def _piece(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, present,
    seen, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    if ROWS <= 16:
        read_narrow_tile(
            queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows,
            present, seen, scale, KEY_BITS, VALUE_BITS, CAUSAL, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK, STAGES,
            WARPS, ASM, PRECISION,
        )  # fmt: skip
    else:
        read_wide_tile(
            queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows,
            present, seen, scale, KEY_BITS, VALUE_BITS, CAUSAL, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK, STAGES,
            ASM, PRECISION,
        )  # fmt: skip


@triton.jit
def _read(
    pieces, queries, outputs, sums, suffix_length, scale, count, kind, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr,
    D: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
    SHARE: tl.constexpr, EXACT_TOO: tl.constexpr, FIELDS: tl.constexpr, ROWS: tl.constexpr,
    EXACT_BLOCK: tl.constexpr, BLOCK: tl.constexpr, EXACT_STAGES: tl.constexpr, STAGES: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr, PDL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One piece of the work list, for ROWS of the SHARE * count query rows of its KV head.

    Pieces of another kind than `kind` (and EXACT, where EXACT_TOO) are another launch's.
    """
    number = tl.program_id(0)
    piece = pieces + number * FIELDS
    its_kind = tl.load(piece)
    first, stop = tl.load(piece + 1).to(tl.int32), tl.load(piece + 2).to(tl.int32)
    head, asked = tl.load(piece + 3), tl.load(piece + 4)
    keys, values = tl.load(piece + 5), tl.load(piece + 6)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    present = rows < SHARE * count
    seen = tl.full((ROWS,), 0x7FFFFFFF, tl.int32)
    queries += asked + head * SHARE * count * D
    outputs += number.to(tl.int64) * SHARE * count * D
    sums += number * SHARE * count
    if PDL:
        # Queries and the tail are of the launch before, and what is written may still be read by an older one.
        ready = wait_for_primary()
        first += ready
        queries += ready
        outputs += ready
        sums += ready
        suffix_length += ready
    # Nested, since `and` would make a value of the GPU of what is known when the kernel is compiled.
    if EXACT_TOO:  # noqa: SIM102
        if its_kind == 0:
            if tl.load(piece + 11) != 0:
                # A new token sees the tail up to itself.
                length = tl.load(suffix_length)
                seen = length + rows % count + 1
                stop = tl.minimum(stop, length + count)
            exact: tl.constexpr = tl.pointer_type(DTYPE)
            k, v = tl.multiple_of(keys.to(exact), 16), tl.multiple_of(values.to(exact), 16)
            _piece(
                queries, outputs, sums, k, k, k, v, v, v, first, stop, rows, present, seen, scale,
                16, 16, True, DTYPE, WIDE, D, 1, GROUP, ROWS, EXACT_BLOCK, EXACT_STAGES, WARPS, ASM, PRECISION,
            )  # fmt: skip
    if KEY_BITS + VALUE_BITS < 32:  # noqa: SIM102
        if its_kind == kind:
            key_scales, key_zeros = tl.load(piece + 7), tl.load(piece + 8)
            value_scales, value_zeros = tl.load(piece + 9), tl.load(piece + 10)
            half: tl.constexpr = tl.pointer_type(tl.float16)
            key_type: tl.constexpr = tl.pointer_type(DTYPE if KEY_BITS == 16 else tl.int16)
            value_type: tl.constexpr = tl.pointer_type(DTYPE if VALUE_BITS == 16 else tl.int16)
            _piece(
                queries, outputs, sums, tl.multiple_of(keys.to(key_type), 16),
                tl.multiple_of(key_scales.to(half), 16), tl.multiple_of(key_zeros.to(half), 16),
                tl.multiple_of(values.to(value_type), 16),
                tl.multiple_of(value_scales.to(half), 16), tl.multiple_of(value_zeros.to(half), 16),
                first, stop, rows, present, seen, scale,
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
    """Output (H, Q, D) in the tail's dtype and log-sum-exp (H, Q) of `count` new tokens in a layer.

    `queries` (2, L, H * most, D) in float32: plain and rotated ones, of each layer or, where L is 1, of this one; rows
    are (H, Q). The tail holds `suffix_length` (1,) tokens and, behind them, the new ones.
    """
    keys = work.suffix[0]
    _, heads, _, dim = keys.shape
    rows = work.share * count
    packed = bool(work.formats)
    pdl = tiling.pdl and supports_pdl(keys.device)
    outputs = torch.empty(work.grid, rows, dim, device=keys.device)
    sums = torch.empty(work.grid, rows, device=keys.device)
    dtype = _DTYPES[keys.dtype]
    block, warps = tiling.block(rows, dim, packed, dtype == tl.float32)
    # Left out where it is None: the interpreter knows no such option.
    limits = {"maxnreg": tiling.registers} if tiling.registers and packed and block <= 16 else {}
    for number, (key_bits, value_bits) in enumerate(work.formats or ((16, 16),), 1):
        _read[work.grid, triton.cdiv(rows, block)](
            work.pieces[layer], queries, outputs, sums, suffix_length, scale * 1.4426950408889634, count, number,
            KEY_BITS=key_bits, VALUE_BITS=value_bits, D=dim, DTYPE=dtype,
            WIDE=tl.float32 if dtype == tl.float32 else tl.float16,
            GROUPS=dim // channel_group(dim), GROUP=GROUP, SHARE=work.share, EXACT_TOO=number == 1,
            FIELDS=work.pieces.shape[2], ROWS=block,
            EXACT_BLOCK=tiling.beside if packed else tiling.exact, BLOCK=tiling.packed,
            EXACT_STAGES=tiling.exact_stages, STAGES=tiling.packed_stages, WARPS=warps,
            ASM=tiling.assembly and keys.is_cuda and dtype != tl.float32, PDL=pdl,
            PRECISION="ieee" if dtype == tl.float32 else "tf32", num_warps=warps, launch_pdl=pdl, **limits,
        )  # fmt: skip
    out = torch.empty(count, heads * work.share, dim, dtype=keys.dtype, device=keys.device)
    lse = torch.empty(heads * work.share, count, device=keys.device)
    merge[heads * rows,](
        out, lse, outputs, sums, work.ranges[layer], count, heads * work.share, SHARE=work.share, D=dim,
        WIDTH=triton.next_power_of_2(dim), BLOCK=tiling.merged, ROTATE=work.rotated, PDL=pdl,
        num_warps=tiling.merging_warps * (1 if dim <= 128 else 2), launch_pdl=pdl,
    )  # fmt: skip
    return out.transpose(0, 1), lse


_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
