"""One tile of keys or values inside the attention kernel, exact or in few bits: scores from keys, sums from values.

Letters: M rows of queries, N slots of a tile; a slice is WIDTH of the D channels, see unpack. Slots stand along the
long side of a tensor core's tile and rows along the short one, since few rows are the rule.
"""

import torch
import triton
import triton.language as tl

from engine.kernels.attention import kv_ranges
from engine.kernels.attention.unpack import field, half, largest, parts, size, width

DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
LOG2_E = 1.4426950408889634
"""Scores times this are logits in base 2, in which kernels take exponentials."""
FIELDS = tl.constexpr(kv_ranges.FIELDS)
"""Columns of a row of a split plan, as of kv_ranges."""
KIND, FIRST, STOP = (tl.constexpr(each) for each in (kv_ranges.KIND, kv_ranges.FIRST, kv_ranges.STOP))
HEAD, QUERY, BEFORE = (tl.constexpr(each) for each in (kv_ranges.HEAD, kv_ranges.QUERY, kv_ranges.BEFORE))
KEYS, VALUES, IS_SUFFIX = (tl.constexpr(each) for each in (kv_ranges.KEYS, kv_ranges.VALUES, kv_ranges.IS_SUFFIX))
KEY_SCALES, KEY_ZEROS = tl.constexpr(kv_ranges.KEY_SCALES), tl.constexpr(kv_ranges.KEY_ZEROS)
VALUE_SCALES, VALUE_ZEROS = tl.constexpr(kv_ranges.VALUE_SCALES), tl.constexpr(kv_ranges.VALUE_ZEROS)
KEY_SCALE = 2.0**-6
"""Packed keys, or the queries that meet them, are this much smaller, so that no product leaves float16."""


@triton.constexpr_function
def shrunk(bits):
    """What scores of such keys are multiplied by."""
    return 1.0 if bits == 16 else size(bits, 0) * KEY_SCALE


@triton.jit
def load_queries(queries, rows, row_mask, D: tl.constexpr, BITS: tl.constexpr, DTYPE: tl.constexpr):
    """The queries by slice, a tuple of (WIDTH, M); those of packed keys without what `field` has too much.

    They are made smaller besides, so that no product with a scale leaves float16: that takes queries and scales of more
    than 2 ** 11, which no model has. What is lost below the least float16 is some 2 ** -12 of a logit.
    """
    PARTS: tl.constexpr = parts(BITS)
    columns = tl.arange(0, width(D, BITS))
    inside = (columns < D // PARTS)[:, None] & row_mask[None, :]
    q = ()
    for part in tl.static_range(PARTS):
        q_part = tl.load(queries + rows[None, :] * D + columns[:, None] * PARTS + part, mask=inside, other=0.0)
        if BITS < 16:
            q_part *= shrunk(BITS) / size(BITS, part)
        q = q + (q_part.to(DTYPE),)
    return q


@triton.jit
def exact_scores(q, keys, slots, D: tl.constexpr, PRECISION: tl.constexpr):
    """Scores (N, M) of exact keys."""
    WIDTH: tl.constexpr = width(D, 16)
    channels = tl.arange(0, WIDTH)
    places = keys + slots[:, None] * D + channels[None, :]
    k = tl.load(places) if WIDTH == D else tl.load(places, mask=(channels < D)[None, :], other=0.0)
    return tl.dot(k, q[0], input_precision=PRECISION)


@triton.jit
def units_of(
    rows, slots, columns, BITS: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    """Units, and third bits where there are three (int16), of OWN of the channels: number GROUP of such groups.

    Slots and columns are such that they broadcast to what is wanted.
    """
    PARTS: tl.constexpr = parts(BITS)
    # Of three bits, a unit holds two.
    places = rows + slots * (D * BITS // 16) + (columns + GROUP * OWN // PARTS)
    EVEN: tl.constexpr = width(OWN, BITS) * PARTS == OWN
    inside = columns < OWN // PARTS
    units = tl.load(places) if EVEN else tl.load(places, mask=inside, other=0)
    high = units
    if BITS == 3:
        # Behind the two low bits of a row, one byte for the third bit of every eight channels.
        third = rows.to(tl.pointer_type(tl.uint8)) + D // 4 + slots * (D * 3 // 8) + (columns + GROUP * OWN // 8)
        high = (tl.load(third) if EVEN else tl.load(third, mask=inside, other=0)).to(tl.int16)
    return units, high


@triton.jit
def group_scales(scales, slot, BITS: tl.constexpr, D: tl.constexpr, GROUP: tl.constexpr):
    """Scales, or zero points, of the keys around a slot: float16 of each unit's channels, up to four in an integer.

    A tuple of (WIDTH,), empty where keys are exact.
    """
    words = ()
    if BITS < 16:
        PARTS: tl.constexpr = parts(BITS)
        HELD: tl.constexpr = min(PARTS, 4)
        columns = tl.arange(0, width(D, BITS))
        row = (scales + slot // GROUP * D).to(tl.pointer_type(tl.int64 if HELD == 4 else tl.int32))
        for part in tl.static_range(PARTS // HELD):
            places = row + columns * (PARTS // HELD) + part
            if width(D, BITS) * PARTS == D:
                words = words + (tl.load(places),)
            else:
                words = words + (tl.load(places, mask=columns < D // PARTS, other=0),)
    return words


@triton.jit
def packed_scores(
    q, keys, scales, zeros, slots, BITS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores (N, M) of keys in few bits, times `shrunk`; all slots are of one group, which shares scales.

    So the scales go into the queries, and the zero points into a number of each query.
    """
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    M: tl.constexpr = q[0].shape[1]
    units, high = units_of(keys, slots[:, None], tl.arange(0, WIDTH)[None, :], BITS, D, D, 0)
    # The same in all of 16 rows: the least that a tensor core takes.
    zero_qk = tl.zeros((16, M), tl.float32)
    for part in tl.static_range(PARTS):
        z_part = half(zeros[part // 4], part % 4).to(WIDE) * (size(BITS, part) / largest(BITS))
        zero_qk = tl.dot(tl.broadcast_to(z_part[None, :], (16, WIDTH)), q[part], zero_qk, input_precision=PRECISION)
    scores = tl.broadcast_to((tl.max(zero_qk, 0) * largest(BITS))[None, :], (slots.shape[0], M))
    for part in tl.static_range(PARTS):
        codes = field(units, high, BITS, part, ASM).to(WIDE)
        s_part = half(scales[part // 4], part % 4).to(WIDE)
        scores = tl.dot(codes, q[part] * s_part[:, None], scores, input_precision=PRECISION)
    return scores


@triton.jit
def token_scales(scales, zeros, slots, BITS: tl.constexpr, GROUPS: tl.constexpr):
    """Scales and zero points of a tile's values: two tuples of (N,), one for each group of channels."""
    s, z = (), ()
    if BITS < 16:
        for group in tl.static_range(GROUPS):
            s = s + (tl.load(scales + slots * GROUPS + group),)
            z = z + (tl.load(zeros + slots * GROUPS + group),)
    return s, z


@triton.jit
def softmax_step(qk, factor, columns, stop, causal_stop, m_i, CAUSAL: tl.constexpr, AXIS: tl.constexpr):
    """The online softmax over one more tile of slots, which stand along AXIS of the scores `qk`, in base 2.

    Gives weights p, what sums so far are to be multiplied by (alpha, M), and the new running maximum (M,). Slots from
    `stop` on weigh nothing and, where CAUSAL, neither do those from a row's `causal_stop` on.
    """
    past_stop = tl.where(columns < stop, 0.0, float("-inf"))
    qk = qk * factor + tl.expand_dims(past_stop, 1 - AXIS)
    if CAUSAL:
        qk = tl.where(tl.expand_dims(columns, 1 - AXIS) < tl.expand_dims(causal_stop, AXIS), qk, float("-inf"))
    m_new = tl.maximum(m_i, tl.max(qk, AXIS))
    base = m_new
    if CAUSAL:
        # A row that has seen nothing yet: any finite number keeps the differences from being NaN.
        base = tl.where(m_new == float("-inf"), 0.0, m_new)
    p = tl.exp2(qk - tl.expand_dims(base, AXIS))
    return p, tl.exp2(m_i - base), m_new


@triton.jit
def fold_slots(numbers, HEIGHT: tl.constexpr):
    """Numbers (N, M), summed to (HEIGHT, M) in each thread. The rest of a sum over slots goes through many of them."""
    N: tl.constexpr = numbers.shape[0]
    if N == HEIGHT:
        return numbers
    else:
        return tl.sum(tl.reshape(numbers, (N // HEIGHT, HEIGHT, numbers.shape[1])), 0)


@triton.jit
def init_acc(M: tl.constexpr, HEIGHT: tl.constexpr, BITS: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr):
    """Nothing yet: three tuples, of sums (WIDTH, M) by group of channels and in it by slice, and two by group.

    Those are of zero points (HEIGHT, M), folded, and of weights (16, M).
    """
    sums, zero_acc, weights = (), (), ()
    if BITS == 16:
        sums = (tl.zeros((width(D, BITS), M), tl.float32),)
    else:
        for _ in tl.static_range(GROUPS):
            zero_acc = zero_acc + (tl.zeros((HEIGHT, M), tl.float32),)
            weights = weights + (tl.zeros((16, M), tl.float32),)
            for _ in tl.static_range(parts(BITS)):
                sums = sums + (tl.zeros((width(D // GROUPS, BITS), M), tl.float32),)
    return sums, zero_acc, weights


@triton.jit
def accumulate_exact(acc, p, alpha, values, slots, D: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """Sums times alpha, and exact values added to them under weights p (N, M)."""
    WIDTH: tl.constexpr = width(D, 16)
    channels = tl.arange(0, WIDTH)
    places = values + slots[None, :] * D + channels[:, None]
    v = tl.load(places) if WIDTH == D else tl.load(places, mask=(channels < D)[:, None], other=0.0)
    return (tl.dot(v, p.to(DTYPE), acc[0][0] * alpha[None, :], input_precision=PRECISION),), (), ()


@triton.jit
def accumulate_packed(
    acc, p, alpha, values, scales, zeros, slots, BITS: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr,
    WIDE: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums (see init_acc) times alpha, and values in few bits added to them under weights p (N, M).

    A token's scale goes into its weight. That is rounded, which codes around zero would suffer least from: therefore
    the sum of rounded weights is kept, and `store_output` moves the codes by half their range.
    """
    sums, zero_acc, weights = acc
    PARTS: tl.constexpr = parts(BITS)
    OWN: tl.constexpr = D // GROUPS
    columns = tl.arange(0, width(OWN, BITS))
    ones = tl.full((16, p.shape[0]), 1.0, WIDE)
    new_sums, new_zero, new_weights = (), (), ()
    for group in tl.static_range(GROUPS):
        units, high = units_of(values, slots[None, :], columns[:, None], BITS, D, OWN, group)
        s, z = scales[group].to(tl.float32), zeros[group].to(tl.float32)
        middle = fold_slots(p * (z + s * (1 << (BITS - 1)))[:, None], zero_acc[group].shape[0])
        new_zero = new_zero + (zero_acc[group] * alpha[None, :] + middle,)
        weight = (p * s[:, None]).to(WIDE)
        before = weights[group] * alpha[None, :]
        new_weights = new_weights + (tl.dot(ones, weight, before, input_precision=PRECISION),)
        for part in tl.static_range(PARTS):
            codes = field(units, high, BITS, part, ASM).to(WIDE)
            before = sums[group * PARTS + part] * alpha[None, :]
            new_sums = new_sums + (tl.dot(codes, weight, before, input_precision=PRECISION),)
    return new_sums, new_zero, new_weights


@triton.jit
def store_output(
    outputs, rows, row_mask, acc, l_i, BITS: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr
):  # fmt: skip
    """Write the output (M, D) that sums come to, divided by the sum of all weights `l_i` (M,)."""
    sums, zero_acc, weights = acc
    PARTS: tl.constexpr = parts(BITS)
    OWN: tl.constexpr = D // GROUPS if BITS < 16 else D
    columns = tl.arange(0, width(OWN, BITS))
    inside = (columns < OWN // PARTS)[:, None] & row_mask[None, :]
    for group in tl.static_range(D // OWN):
        offset = tl.zeros(l_i.shape, tl.float32)
        if BITS < 16:
            # All rows of the sums of weights are the same.
            offset = tl.sum(zero_acc[group], 0) - tl.max(weights[group], 0) * (1 << (BITS - 1))
        for part in tl.static_range(PARTS):
            out = (sums[group * PARTS + part] * (1 / size(BITS, part)) + offset[None, :]) / l_i[None, :]
            places = rows[None, :] * D + columns[:, None] * PARTS + (group * OWN + part)
            tl.store(outputs + places, out, mask=inside)
