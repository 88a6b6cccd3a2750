"""Attention of a few new tokens over everything in a work list: many programs read a piece each, one merges a row.

Letters: H query heads, G KV heads, Q new tokens, D head dim, W pieces of a layer, M = H / G * Q rows of a KV head.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.codes import field, parts, scaled_field, split, width
from engine.kernels.merge import merge
from engine.kernels.work_list import WorkList
from engine.precision import GROUP, channel_group


@dataclass(frozen=True)
class Tiling:
    """How the kernel is cut: slots that are read at once (exact, packed), warps, loads ahead, and by hand or not."""

    exact: int = 64
    packed: int = 64
    warps: int = 4
    exact_stages: int = 2
    packed_stages: int = 3
    rows: int = 64
    """Most rows of queries that one program takes."""
    assembly: bool = True
    """Take codes apart by two-lane instructions of the GPU instead of Triton's own."""


@triton.jit
def _keys(q, keys, slots, held, D: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """Scores (M, N) of exact keys."""
    channels = tl.arange(0, WIDTH)
    inside = held[None, :] & (channels < D)[:, None]
    rows = tl.load(keys + slots[None, :] * D + channels[:, None], mask=inside, other=0.0)
    return tl.dot(q, rows, input_precision=PRECISION)


@triton.jit
def _field_scores(
    scores, q, units, high, scale, zero, BITS: tl.constexpr, PART: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    scale, zero = tl.broadcast_to(scale[:, None], units.shape), tl.broadcast_to(zero[:, None], units.shape)
    rows = scaled_field(units, high, scale, zero, BITS, PART, WIDE, ASM)
    return tl.dot(q, rows, scores, input_precision=PRECISION)


@triton.jit
def _packed_keys(
    q0, q1, q2, q3, q4, q5, q6, q7, keys, scales, zeros, group, slots, held, BITS: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores (M, N) of keys in few bits; all slots are of one group, which shares a scale in every channel."""
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    columns, channels = tl.arange(0, WIDTH), tl.arange(0, WIDTH * PARTS)
    inside = held[None, :] & (columns < D // PARTS)[:, None]
    units = tl.load(keys + slots[None, :] * (D * BITS // 16) + columns[:, None], mask=inside, other=0)
    high = units
    if BITS == 3:
        # Behind the two low bits of a row, one byte for the third bit of every eight channels.
        third = keys.to(tl.pointer_type(tl.uint8)) + D // 4
        high = tl.load(third + slots[None, :] * (D * 3 // 8) + columns[:, None], mask=inside, other=0)
    own = channels < D
    s = tl.load(scales + group * D + channels, mask=own, other=0.0)
    z = tl.load(zeros + group * D + channels, mask=own, other=0.0)
    s0, s1, s2, s3, s4, s5, s6, s7 = split(s, PARTS, WIDTH)
    z0, z1, z2, z3, z4, z5, z6, z7 = split(z, PARTS, WIDTH)
    scores = tl.zeros((ROWS, held.shape[0]), tl.float32)
    scores = _field_scores(scores, q0, units, high, s0, z0, BITS, 0, WIDE, ASM, PRECISION)
    scores = _field_scores(scores, q1, units, high, s1, z1, BITS, 1, WIDE, ASM, PRECISION)
    if PARTS > 2:
        scores = _field_scores(scores, q2, units, high, s2, z2, BITS, 2, WIDE, ASM, PRECISION)
        scores = _field_scores(scores, q3, units, high, s3, z3, BITS, 3, WIDE, ASM, PRECISION)
    if PARTS > 4:
        scores = _field_scores(scores, q4, units, high, s4, z4, BITS, 4, WIDE, ASM, PRECISION)
        scores = _field_scores(scores, q5, units, high, s5, z5, BITS, 5, WIDE, ASM, PRECISION)
        scores = _field_scores(scores, q6, units, high, s6, z6, BITS, 6, WIDE, ASM, PRECISION)
        scores = _field_scores(scores, q7, units, high, s7, z7, BITS, 7, WIDE, ASM, PRECISION)
    return scores


@triton.jit
def _field_sum(
    total, p, units, high, scale, zero, BITS: tl.constexpr, PART: tl.constexpr, SHARED: tl.constexpr,
    WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to a slice's sums (M, WIDTH) what the weights p (M, N) make of it."""
    if SHARED:
        rows = field(units, high, BITS, PART, 1 << (BITS - 1), ASM).to(WIDE)
    else:
        rows = scaled_field(units, high, scale, zero, BITS, PART, WIDE, ASM)
    return tl.dot(p, rows, total, input_precision=PRECISION)


@triton.jit
def _packed_values(
    a0, a1, a2, a3, a4, a5, a6, a7, offset, p, values, scales, zeros, slots, held, BITS: tl.constexpr,
    D: tl.constexpr, GROUPS: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of slices and the sum (M,) that all channels share, with values in few bits added under weights p (M, N).

    Where a token has one scale, it goes into the weights; codes are taken around their middle, so that they and the
    zero points stay of one size.
    """
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    columns = tl.arange(0, WIDTH)
    inside = held[:, None] & (columns < D // PARTS)[None, :]
    units = tl.load(values + slots[:, None] * (D * BITS // 16) + columns[None, :], mask=inside, other=0)
    high = units
    if BITS == 3:
        third = values.to(tl.pointer_type(tl.uint8)) + D // 4
        high = tl.load(third + slots[:, None] * (D * 3 // 8) + columns[None, :], mask=inside, other=0)
    SHARED: tl.constexpr = GROUPS == 1
    if SHARED:
        s = tl.load(scales + slots, mask=held, other=0.0).to(tl.float32)
        z = tl.load(zeros + slots, mask=held, other=0.0).to(tl.float32)
        offset += tl.sum(p * (z + s * (1 << (BITS - 1)))[None, :], 1)
        weights = (p * s[None, :]).to(WIDE)
    else:
        places = slots[:, None] * GROUPS + (columns // (D // PARTS // GROUPS))[None, :]
        s = tl.load(scales + places, mask=inside, other=0.0)
        z = tl.load(zeros + places, mask=inside, other=0.0)
        weights = p.to(WIDE)
    a0 = _field_sum(a0, weights, units, high, s, z, BITS, 0, SHARED, WIDE, ASM, PRECISION)
    a1 = _field_sum(a1, weights, units, high, s, z, BITS, 1, SHARED, WIDE, ASM, PRECISION)
    if PARTS > 2:
        a2 = _field_sum(a2, weights, units, high, s, z, BITS, 2, SHARED, WIDE, ASM, PRECISION)
        a3 = _field_sum(a3, weights, units, high, s, z, BITS, 3, SHARED, WIDE, ASM, PRECISION)
    if PARTS > 4:
        a4 = _field_sum(a4, weights, units, high, s, z, BITS, 4, SHARED, WIDE, ASM, PRECISION)
        a5 = _field_sum(a5, weights, units, high, s, z, BITS, 5, SHARED, WIDE, ASM, PRECISION)
        a6 = _field_sum(a6, weights, units, high, s, z, BITS, 6, SHARED, WIDE, ASM, PRECISION)
        a7 = _field_sum(a7, weights, units, high, s, z, BITS, 7, SHARED, WIDE, ASM, PRECISION)
    return a0, a1, a2, a3, a4, a5, a6, a7, offset


@triton.jit
def _slice(
    queries, rows, present, D: tl.constexpr, BITS: tl.constexpr, PART: tl.constexpr, DTYPE: tl.constexpr
):  # fmt: skip
    """One slice (M, WIDTH) of the queries' channels; nothing where there are fewer slices."""
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    columns = tl.arange(0, WIDTH)
    if PART < PARTS:
        inside = present[:, None] & (columns < D // PARTS)[None, :]
        places = rows[:, None] * D + columns[None, :] * PARTS + PART
        return tl.load(queries + places, mask=inside, other=0.0).to(DTYPE)
    else:
        return 0.0


@triton.jit
def _sums(ROWS: tl.constexpr, PARTS: tl.constexpr, PART: tl.constexpr, WIDTH: tl.constexpr):
    """Sums of a slice to start with."""
    if PART < PARTS:
        return tl.zeros((ROWS, WIDTH), tl.float32)
    else:
        return 0.0


@triton.jit
def _shrunk(total, factor, PARTS: tl.constexpr, PART: tl.constexpr):
    if PART < PARTS:
        return total * factor[:, None]
    else:
        return total


@triton.jit
def _store(
    outputs, rows, present, total, offset, divisor, D: tl.constexpr, PARTS: tl.constexpr, PART: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    if PART < PARTS:
        columns = tl.arange(0, WIDTH)
        inside = present[:, None] & (columns < D // PARTS)[None, :]
        out = (total + offset[:, None]) / divisor[:, None]
        tl.store(outputs + rows[:, None] * D + columns[None, :] * PARTS + PART, out, mask=inside)


@triton.jit
def _piece(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, present,
    seen, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr,
    D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    STAGES: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax over slots first..stop of one KV head, for `rows` of its queries that see slots below `seen` (M,).

    Logits are in base 2. Writes the output (M, D) and the log-sum-exp, in base 2, of the piece.
    """
    KEY_PARTS: tl.constexpr = parts(KEY_BITS)
    PARTS: tl.constexpr = parts(VALUE_BITS)
    WIDTH: tl.constexpr = width(D, VALUE_BITS)
    ASKING: tl.constexpr = DTYPE if KEY_BITS == 16 else WIDE
    KEY_WIDTH: tl.constexpr = width(D, KEY_BITS)
    q0 = _slice(queries, rows, present, D, KEY_BITS, 0, ASKING)
    q1 = _slice(queries, rows, present, D, KEY_BITS, 1, ASKING)
    q2 = _slice(queries, rows, present, D, KEY_BITS, 2, ASKING)
    q3 = _slice(queries, rows, present, D, KEY_BITS, 3, ASKING)
    q4 = _slice(queries, rows, present, D, KEY_BITS, 4, ASKING)
    q5 = _slice(queries, rows, present, D, KEY_BITS, 5, ASKING)
    q6 = _slice(queries, rows, present, D, KEY_BITS, 6, ASKING)
    q7 = _slice(queries, rows, present, D, KEY_BITS, 7, ASKING)
    a0 = _sums(ROWS, PARTS, 0, WIDTH)
    a1 = _sums(ROWS, PARTS, 1, WIDTH)
    a2 = _sums(ROWS, PARTS, 2, WIDTH)
    a3 = _sums(ROWS, PARTS, 3, WIDTH)
    a4 = _sums(ROWS, PARTS, 4, WIDTH)
    a5 = _sums(ROWS, PARTS, 5, WIDTH)
    a6 = _sums(ROWS, PARTS, 6, WIDTH)
    a7 = _sums(ROWS, PARTS, 7, WIDTH)
    offset = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        slots = start + tl.arange(0, BLOCK)
        held = slots < stop
        if KEY_BITS == 16:
            logits = _keys(q0, keys, slots, held, D, KEY_WIDTH, PRECISION)
        else:
            logits = _packed_keys(
                q0, q1, q2, q3, q4, q5, q6, q7, keys, key_scales, key_zeros, start // GROUP, slots, held,
                KEY_BITS, D, ROWS, WIDE, ASM, PRECISION,
            )  # fmt: skip
        visible = held[None, :] & (slots[None, :] < seen[:, None])
        logits = tl.where(visible, logits * scale, float("-inf"))
        higher = tl.maximum(most, tl.max(logits, 1))
        # A row that has seen nothing yet: any finite number keeps the differences from being NaN.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(logits - base[:, None])
        shrink = tl.exp2(most - base)
        total = total * shrink + tl.sum(p, 1)
        most = higher
        a0 = _shrunk(a0, shrink, PARTS, 0)
        a1 = _shrunk(a1, shrink, PARTS, 1)
        a2 = _shrunk(a2, shrink, PARTS, 2)
        a3 = _shrunk(a3, shrink, PARTS, 3)
        a4 = _shrunk(a4, shrink, PARTS, 4)
        a5 = _shrunk(a5, shrink, PARTS, 5)
        a6 = _shrunk(a6, shrink, PARTS, 6)
        a7 = _shrunk(a7, shrink, PARTS, 7)
        offset = offset * shrink
        if VALUE_BITS == 16:
            channels = tl.arange(0, WIDTH)
            inside = held[:, None] & (channels < D)[None, :]
            v = tl.load(values + slots[:, None] * D + channels[None, :], mask=inside, other=0.0)
            a0 = tl.dot(p.to(DTYPE), v, a0, input_precision=PRECISION)
        else:
            a0, a1, a2, a3, a4, a5, a6, a7, offset = _packed_values(
                a0, a1, a2, a3, a4, a5, a6, a7, offset, p, values, value_scales, value_zeros, slots, held,
                VALUE_BITS, D, GROUPS, WIDE, ASM, PRECISION,
            )  # fmt: skip
    divisor = tl.where(total > 0, total, 1.0)
    _store(outputs, rows, present, a0, offset, divisor, D, PARTS, 0, WIDTH)
    _store(outputs, rows, present, a1, offset, divisor, D, PARTS, 1, WIDTH)
    _store(outputs, rows, present, a2, offset, divisor, D, PARTS, 2, WIDTH)
    _store(outputs, rows, present, a3, offset, divisor, D, PARTS, 3, WIDTH)
    _store(outputs, rows, present, a4, offset, divisor, D, PARTS, 4, WIDTH)
    _store(outputs, rows, present, a5, offset, divisor, D, PARTS, 5, WIDTH)
    _store(outputs, rows, present, a6, offset, divisor, D, PARTS, 6, WIDTH)
    _store(outputs, rows, present, a7, offset, divisor, D, PARTS, 7, WIDTH)
    tl.store(sums + rows, most + tl.log2(divisor), mask=present)


@triton.jit
def _read(
    pieces, queries, outputs, sums, tail_length, scale, count, kind, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr,
    D: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
    SHARE: tl.constexpr, EXACT_TOO: tl.constexpr, ROWS: tl.constexpr, EXACT_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
    EXACT_STAGES: tl.constexpr, STAGES: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One piece of the work list, for ROWS of the SHARE * count query rows of its KV head.

    Pieces of another kind than `kind` (and EXACT, where EXACT_TOO) are another launch's.
    """
    number = tl.program_id(0)
    piece = pieces + number * 12
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
    if EXACT_TOO:
        if its_kind == 0:
            if tl.load(piece + 11) != 0:
                # A new token sees the tail up to itself.
                length = tl.load(tail_length)
                seen = length + rows % count + 1
                stop = tl.minimum(stop, length + count)
            exact: tl.constexpr = tl.pointer_type(DTYPE)
            k, v = tl.multiple_of(keys.to(exact), 16), tl.multiple_of(values.to(exact), 16)
            _piece(
                queries, outputs, sums, k, k, k, v, v, v, first, stop, rows, present, seen, scale,
                16, 16, DTYPE, WIDE, D, 1, GROUP, ROWS, EXACT_BLOCK, EXACT_STAGES, ASM, PRECISION,
            )  # fmt: skip
    if KEY_BITS + VALUE_BITS < 32:
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
                KEY_BITS, VALUE_BITS, DTYPE, WIDE, D, GROUPS, GROUP, ROWS, BLOCK, STAGES, ASM, PRECISION,
            )  # fmt: skip


def attend(
    work: WorkList,
    layer: int,
    queries: Tensor,
    count: int,
    tail_length: Tensor,
    scale: float,
    turn: Tensor,
    tiling: Tiling | None = None,
) -> tuple[Tensor, Tensor]:
    """Output (H, Q, D) in the tail's dtype and log-sum-exp (H, Q) of `count` new tokens in a layer.

    `queries` (2, L, H * most, D) in float32: plain and rotated ones, of each layer or, where L is 1, of this one; rows
    are (H, Q). The tail holds `tail_length` (1,) tokens and, behind them, the new ones. `turn` (D, D) is the rotation.
    """
    tiling = tiling or Tiling()
    keys = work.tail[0]
    _, heads, _, dim = keys.shape
    rows = work.share * count
    block = min(tiling.rows, max(16, triton.next_power_of_2(rows)))
    outputs = torch.empty(work.grid, rows, dim, device=keys.device)
    sums = torch.empty(work.grid, rows, device=keys.device)
    dtype = _DTYPES[keys.dtype]
    for number, (key_bits, value_bits) in enumerate(work.formats or ((16, 16),), 1):
        _read[work.grid, triton.cdiv(rows, block)](
            work.pieces[layer], queries, outputs, sums, tail_length, scale * 1.4426950408889634, count, number,
            KEY_BITS=key_bits, VALUE_BITS=value_bits, D=dim, DTYPE=dtype,
            WIDE=tl.float32 if dtype == tl.float32 else tl.float16,
            GROUPS=dim // channel_group(dim), GROUP=GROUP, SHARE=work.share, EXACT_TOO=number == 1, ROWS=block,
            EXACT_BLOCK=tiling.exact, BLOCK=tiling.packed, EXACT_STAGES=tiling.exact_stages,
            STAGES=tiling.packed_stages, ASM=tiling.assembly and keys.is_cuda and dtype != tl.float32,
            PRECISION="ieee" if dtype == tl.float32 else "tf32", num_warps=tiling.warps,
        )  # fmt: skip
    out = torch.empty(heads * work.share, count, dim, dtype=keys.dtype, device=keys.device)
    lse = torch.empty(heads * work.share, count, device=keys.device)
    merge[heads * rows,](
        out, lse, outputs, sums, work.ranges[layer], turn, count, SHARE=work.share, D=dim,
        WIDTH=triton.next_power_of_2(dim), BLOCK=16, TURNED=work.turned, num_warps=8 if dim <= 128 else 16,
    )  # fmt: skip
    return out, lse


_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
