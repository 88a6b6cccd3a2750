"""One piece of the work list for many rows of queries: codes are taken apart once for all of them, in shared memory.

Like piece, but rows stand along the long side of a tensor core's tile, and scales of keys go into the keys.
Letters: M rows of queries, N slots of a tile, C channels of a group of values, in the order of slices (see codes).
"""

# Triton's language has no types that a checker could follow.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment,misc"

import triton
import triton.language as tl

from engine.kernels.attention.tile_ops import group_scales, token_scales, units_of
from engine.kernels.attention.unpack import field, half, parts, size, width

_SHRUNK = tl.constexpr(2.0**-6)


@triton.jit
def _places(D: tl.constexpr, BITS: tl.constexpr):
    """Which channels a row of slices holds, and whether each is one."""
    PARTS: tl.constexpr = parts(BITS)
    WIDTH: tl.constexpr = width(D, BITS)
    places = tl.arange(0, PARTS * WIDTH)
    return places % WIDTH * PARTS + places // WIDTH, places % WIDTH < D // PARTS


@triton.jit
def _joined(slices, PARTS: tl.constexpr, STEP: tl.constexpr, FIRST: tl.constexpr):
    """Slices FIRST, FIRST + STEP, ... (N, WIDTH) with further dimensions of two behind, the last one the lowest bit."""
    if STEP == PARTS:
        return slices[FIRST]
    else:
        even = _joined(slices, PARTS, 2 * STEP, FIRST)
        return tl.join(even, _joined(slices, PARTS, 2 * STEP, FIRST + STEP))


@triton.jit
def _row(slices, PARTS: tl.constexpr):
    """Slices (N, WIDTH) one behind the other: (N, PARTS * WIDTH)."""
    N: tl.constexpr = slices[0].shape[0]
    WIDTH: tl.constexpr = slices[0].shape[1]
    together = tl.reshape(_joined(slices, PARTS, 1, 0), (N, WIDTH, PARTS))
    return tl.reshape(tl.permute(together, (0, 2, 1)), (N, PARTS * WIDTH))


@triton.jit
def _exact_rows(rows, slots, D: tl.constexpr):
    channels = tl.arange(0, width(D, 16))
    places = rows + slots[:, None] * D + channels[None, :]
    return tl.load(places) if width(D, 16) == D else tl.load(places, mask=(channels < D)[None, :], other=0.0)


@triton.jit
def _packed_keys(
    keys, scales, zeros, slots, BITS: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr
):  # fmt: skip
    """Keys (N, C) in few bits, as numbers times `_SHRUNK`: so no scale, times what fields lack, leaves float16."""
    units, high = units_of(keys, slots[:, None], tl.arange(0, width(D, BITS))[None, :], BITS, D, D, 0)
    slices = ()
    for part in tl.static_range(parts(BITS)):
        codes = field(units, high, BITS, part, ASM).to(WIDE) * 32768.0
        s = half(scales[part // 4], part % 4).to(WIDE) * (_SHRUNK / 32768.0 / size(BITS, part))
        z = half(zeros[part // 4], part % 4).to(WIDE) * _SHRUNK
        slices = slices + (codes * s[None, :] + z[None, :],)
    return _row(slices, parts(BITS))


@triton.jit
def _packed_values(
    values, slots, BITS: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, GROUP: tl.constexpr, WIDE: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """Codes of a group's values (N, C), as `field` gives them."""
    units, high = units_of(values, slots[:, None], tl.arange(0, width(OWN, BITS))[None, :], BITS, D, OWN, GROUP)
    slices = ()
    for part in tl.static_range(parts(BITS)):
        slices = slices + (field(units, high, BITS, part, ASM).to(WIDE),)
    return _row(slices, parts(BITS))


@triton.jit
def read_wide_tile(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, present,
    seen, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See piece.read_narrow_tile."""
    SHARING: tl.constexpr = GROUPS if VALUE_BITS < 16 else 1
    OWN: tl.constexpr = D // SHARING
    channels, real = _places(D, KEY_BITS)
    inside = present[:, None] & real[None, :]
    q = tl.load(queries + rows[:, None] * D + channels[None, :], mask=inside, other=0.0)
    q = q.to(DTYPE if KEY_BITS == 16 else WIDE)
    factor = scale if KEY_BITS == 16 else scale / _SHRUNK
    grown, shared = (), ()
    for _ in tl.static_range(SHARING):
        grown = grown + (tl.zeros((ROWS, width(OWN, VALUE_BITS) * parts(VALUE_BITS)), tl.float32),)
        shared = shared + (tl.zeros((ROWS,), tl.float32),)
    total = tl.zeros((ROWS,), tl.float32)
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    slots = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    scales, zeros = token_scales(value_scales, value_zeros, slots, VALUE_BITS, GROUPS)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        numbers = start + tl.arange(0, BLOCK)
        slots = tl.minimum(numbers, stop - 1)
        scales_now, zeros_now = scales, zeros
        ahead = tl.minimum(numbers + BLOCK, stop - 1)
        scales, zeros = token_scales(value_scales, value_zeros, ahead, VALUE_BITS, GROUPS)
        if KEY_BITS == 16:
            k = _exact_rows(keys, slots, D)
        else:
            group_scale = group_scales(key_scales, start, KEY_BITS, D, GROUP)
            group_zero = group_scales(key_zeros, start, KEY_BITS, D, GROUP)
            k = _packed_keys(keys, group_scale, group_zero, slots, KEY_BITS, D, WIDE, ASM)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        unheld = tl.where(numbers < stop, 0.0, float("-inf"))
        logits = logits * factor + unheld[None, :]
        if CAUSAL:
            logits = tl.where(numbers[None, :] < seen[:, None], logits, float("-inf"))
        higher = tl.maximum(most, tl.max(logits, 1))
        base = higher
        if CAUSAL:
            base = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(logits - base[:, None])
        shrink = tl.exp2(most - base)
        total = total * shrink + tl.sum(p, 1)
        most = higher
        if VALUE_BITS == 16:
            v = _exact_rows(values, slots, D)
            grown = (tl.dot(p.to(DTYPE), v, grown[0] * shrink[:, None], input_precision=PRECISION),)
        else:
            more, offsets = (), ()
            for group in tl.static_range(SHARING):
                s, z = scales_now[group].to(tl.float32), zeros_now[group].to(tl.float32)
                weight = (p * s[None, :]).to(WIDE)
                offsets = offsets + (shared[group] * shrink + tl.sum(p * z[None, :], 1),)
                v = _packed_values(values, slots, VALUE_BITS, D, OWN, group, WIDE, ASM)
                more = more + (tl.dot(weight, v, grown[group] * shrink[:, None], input_precision=PRECISION),)
            grown, shared = more, offsets
    weight = tl.where(total > 0, total, 1.0)
    channels, real = _places(OWN, VALUE_BITS)
    owed = tl.zeros(channels.shape, tl.float32)
    for part in tl.static_range(parts(VALUE_BITS)):
        owed = tl.where(channels % parts(VALUE_BITS) == part, 1 / size(VALUE_BITS, part), owed)
    inside = present[:, None] & real[None, :]
    for group in tl.static_range(SHARING):
        out = (grown[group] * owed[None, :] + shared[group][:, None]) / weight[:, None]
        tl.store(outputs + rows[:, None] * D + (channels + group * OWN)[None, :], out, mask=inside)
    tl.store(sums + rows, most + tl.log2(weight), mask=present)
