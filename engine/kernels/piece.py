"""One piece of the work list inside the attention kernel: softmax over its slots, for all queries of its KV head."""

import triton
import triton.language as tl

from engine.kernels.codes import parts, width
from engine.kernels.packed_rows import exact_scores, packed_scores, packed_sums, token_scales


@triton.jit
def query_slice(
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
def read_piece(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, present,
    seen, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr,
    D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    STAGES: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax over slots first..stop of one KV head, for `rows` of its queries that see slots below `seen` (M,).

    Logits are in base 2. Writes the output (M, D) and the log-sum-exp, in base 2, of the piece.
    """
    PARTS: tl.constexpr = parts(VALUE_BITS)
    WIDTH: tl.constexpr = width(D, VALUE_BITS)
    ASKING: tl.constexpr = DTYPE if KEY_BITS == 16 else WIDE
    KEY_WIDTH: tl.constexpr = width(D, KEY_BITS)
    q0 = query_slice(queries, rows, present, D, KEY_BITS, 0, ASKING)
    q1 = query_slice(queries, rows, present, D, KEY_BITS, 1, ASKING)
    q2 = query_slice(queries, rows, present, D, KEY_BITS, 2, ASKING)
    q3 = query_slice(queries, rows, present, D, KEY_BITS, 3, ASKING)
    q4 = query_slice(queries, rows, present, D, KEY_BITS, 4, ASKING)
    q5 = query_slice(queries, rows, present, D, KEY_BITS, 5, ASKING)
    q6 = query_slice(queries, rows, present, D, KEY_BITS, 6, ASKING)
    q7 = query_slice(queries, rows, present, D, KEY_BITS, 7, ASKING)
    a0 = _sums(ROWS, PARTS, 0, WIDTH)
    a1 = _sums(ROWS, PARTS, 1, WIDTH)
    a2 = _sums(ROWS, PARTS, 2, WIDTH)
    a3 = _sums(ROWS, PARTS, 3, WIDTH)
    a4 = _sums(ROWS, PARTS, 4, WIDTH)
    a5 = _sums(ROWS, PARTS, 5, WIDTH)
    a6 = _sums(ROWS, PARTS, 6, WIDTH)
    a7 = _sums(ROWS, PARTS, 7, WIDTH)
    # Summed over the slots of a tile at the end only: sums over slots go through all warps.
    offset = tl.zeros((ROWS, BLOCK), tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    slots = first + tl.arange(0, BLOCK)
    scale_next, zero_next = token_scales(value_scales, value_zeros, slots, stop, VALUE_BITS, GROUPS)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        slots = start + tl.arange(0, BLOCK)
        held = slots < stop
        # Two bytes a slot cannot be copied ahead of time by Triton: these are asked for a round before they are used.
        scale_now, zero_now = scale_next, zero_next
        scale_next, zero_next = token_scales(value_scales, value_zeros, slots + BLOCK, stop, VALUE_BITS, GROUPS)
        if KEY_BITS == 16:
            logits = exact_scores(q0, keys, slots, held, D, KEY_WIDTH, PRECISION)
        else:
            logits = packed_scores(
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
        total = total * shrink[:, None] + p
        most = higher
        a0 = _shrunk(a0, shrink, PARTS, 0)
        a1 = _shrunk(a1, shrink, PARTS, 1)
        a2 = _shrunk(a2, shrink, PARTS, 2)
        a3 = _shrunk(a3, shrink, PARTS, 3)
        a4 = _shrunk(a4, shrink, PARTS, 4)
        a5 = _shrunk(a5, shrink, PARTS, 5)
        a6 = _shrunk(a6, shrink, PARTS, 6)
        a7 = _shrunk(a7, shrink, PARTS, 7)
        offset = offset * shrink[:, None]
        if VALUE_BITS == 16:
            channels = tl.arange(0, WIDTH)
            inside = held[:, None] & (channels < D)[None, :]
            v = tl.load(values + slots[:, None] * D + channels[None, :], mask=inside, other=0.0)
            a0 = tl.dot(p.to(DTYPE), v, a0, input_precision=PRECISION)
        else:
            a0, a1, a2, a3, a4, a5, a6, a7, offset = packed_sums(
                a0, a1, a2, a3, a4, a5, a6, a7, offset, p, values, value_scales, value_zeros, scale_now, zero_now,
                slots, held, VALUE_BITS, D, GROUPS, WIDE, ASM, PRECISION,
            )  # fmt: skip
    weight, offset = tl.sum(total, 1), tl.sum(offset, 1)
    divisor = tl.where(weight > 0, weight, 1.0)
    _store(outputs, rows, present, a0, offset, divisor, D, PARTS, 0, WIDTH)
    _store(outputs, rows, present, a1, offset, divisor, D, PARTS, 1, WIDTH)
    _store(outputs, rows, present, a2, offset, divisor, D, PARTS, 2, WIDTH)
    _store(outputs, rows, present, a3, offset, divisor, D, PARTS, 3, WIDTH)
    _store(outputs, rows, present, a4, offset, divisor, D, PARTS, 4, WIDTH)
    _store(outputs, rows, present, a5, offset, divisor, D, PARTS, 5, WIDTH)
    _store(outputs, rows, present, a6, offset, divisor, D, PARTS, 6, WIDTH)
    _store(outputs, rows, present, a7, offset, divisor, D, PARTS, 7, WIDTH)
    tl.store(sums + rows, most + tl.log2(divisor), mask=present)
