"""One tile of keys or values inside the attention kernel: scores from keys, sums from values, exact or in few bits.

Letters: M rows of queries, N slots of a tile; a slice is WIDTH of the D channels, see codes.
"""

import triton
import triton.language as tl

from engine.kernels.codes import field, parts, scaled_field, split, width


@triton.jit
def exact_scores(q, keys, slots, held, D: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
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
def packed_scores(
    q0, q1, q2, q3, q4, q5, q6, q7, keys, scales, zeros, group, slots, held, BITS: tl.constexpr, D: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores (M, N) of keys in few bits; all slots are of one group, which shares a scale in every channel."""
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    columns, pairs = tl.arange(0, WIDTH), tl.arange(0, WIDTH * PARTS // 2)
    inside = held[None, :] & (columns < D // PARTS)[:, None]
    units = tl.load(keys + slots[None, :] * (D * BITS // 16) + columns[:, None], mask=inside, other=0)
    high = units
    if BITS == 3:
        # Behind the two low bits of a row, one byte for the third bit of every eight channels.
        third = keys.to(tl.pointer_type(tl.uint8)) + D // 4
        high = tl.load(third + slots[None, :] * (D * 3 // 8) + columns[:, None], mask=inside, other=0)
    own = pairs < D // 2
    s = tl.load(scales + group * (D // 2) + pairs, mask=own, other=0)
    z = tl.load(zeros + group * (D // 2) + pairs, mask=own, other=0)
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
def token_scales(scales, zeros, slots, stop, BITS: tl.constexpr, GROUPS: tl.constexpr):
    """Scale and zero point of a tile's values (N,), for weights; nothing where they are not one per token."""
    if BITS < 16 and GROUPS == 1:
        held = slots < stop
        return tl.load(scales + slots, mask=held, other=0.0), tl.load(zeros + slots, mask=held, other=0.0)
    else:
        return 0.0, 0.0


@triton.jit
def packed_sums(
    a0, a1, a2, a3, a4, a5, a6, a7, offset, p, values, scales, zeros, scale, zero, slots, held, BITS: tl.constexpr,
    D: tl.constexpr, GROUPS: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums of slices and those (M, N) that all channels share, with values in few bits added under weights p (M, N).

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
        s, z = scale.to(tl.float32), zero.to(tl.float32)
        offset += p * (z + s * (1 << (BITS - 1)))[None, :]
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
