"""A split of the keys and values for many rows of queries: codes are unpacked once for all, in shared memory.

As tile_narrow, but rows stand along the long side of a tensor core's tile, and scales of keys go into the keys.
Letters: M rows of queries, N slots of a tile, C channels of a group of values, in the order of slices (see unpack).
"""

import triton
import triton.language as tl

from engine.kernels.attention.tile_ops import KEY_SCALE, group_scales, softmax_step, token_scales, units_of
from engine.kernels.attention.unpack import field, half, parts, size, width

_KEY_SCALE = tl.constexpr(KEY_SCALE)


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
    """Keys (N, C) in few bits, as numbers times `_KEY_SCALE`: so no scale, times what fields lack, leaves float16."""
    units, high = units_of(keys, slots[:, None], tl.arange(0, width(D, BITS))[None, :], BITS, D, D, 0)
    slices = ()
    for part in tl.static_range(parts(BITS)):
        codes = field(units, high, BITS, part, ASM).to(WIDE) * 32768.0
        s = half(scales[part // 4], part % 4).to(WIDE) * (_KEY_SCALE / 32768.0 / size(BITS, part))
        z = half(zeros[part // 4], part % 4).to(WIDE) * _KEY_SCALE
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
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, row_mask,
    causal_stop, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """See tile_narrow.read_narrow_tile."""
    SHARING: tl.constexpr = GROUPS if VALUE_BITS < 16 else 1
    OWN: tl.constexpr = D // SHARING
    channels, in_head = _places(D, KEY_BITS)
    mask = row_mask[:, None] & in_head[None, :]
    q = tl.load(queries + rows[:, None] * D + channels[None, :], mask=mask, other=0.0)
    q = q.to(DTYPE if KEY_BITS == 16 else WIDE)
    factor = scale if KEY_BITS == 16 else scale / _KEY_SCALE
    acc, zero_acc = (), ()
    for _ in tl.static_range(SHARING):
        acc = acc + (tl.zeros((ROWS, width(OWN, VALUE_BITS) * parts(VALUE_BITS)), tl.float32),)
        zero_acc = zero_acc + (tl.zeros((ROWS,), tl.float32),)
    l_i = tl.zeros((ROWS,), tl.float32)
    m_i = tl.full((ROWS,), float("-inf"), tl.float32)
    slots = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    scales, zeros = token_scales(value_scales, value_zeros, slots, VALUE_BITS, GROUPS)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        columns = start + tl.arange(0, BLOCK)
        slots = tl.minimum(columns, stop - 1)
        scales_now, zeros_now = scales, zeros
        ahead = tl.minimum(columns + BLOCK, stop - 1)
        scales, zeros = token_scales(value_scales, value_zeros, ahead, VALUE_BITS, GROUPS)
        if KEY_BITS == 16:
            k = _exact_rows(keys, slots, D)
        else:
            key_scale = group_scales(key_scales, start, KEY_BITS, D, GROUP)
            key_zero = group_scales(key_zeros, start, KEY_BITS, D, GROUP)
            k = _packed_keys(keys, key_scale, key_zero, slots, KEY_BITS, D, WIDE, ASM)
        qk = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        p, alpha, m_i = softmax_step(qk, factor, columns, stop, causal_stop, m_i, CAUSAL, 1)
        l_i = l_i * alpha + tl.sum(p, 1)
        if VALUE_BITS == 16:
            v = _exact_rows(values, slots, D)
            acc = (tl.dot(p.to(DTYPE), v, acc[0] * alpha[:, None], input_precision=PRECISION),)
        else:
            new_acc, offsets = (), ()
            for group in tl.static_range(SHARING):
                s, z = scales_now[group].to(tl.float32), zeros_now[group].to(tl.float32)
                weight = (p * s[None, :]).to(WIDE)
                offsets = offsets + (zero_acc[group] * alpha + tl.sum(p * z[None, :], 1),)
                v = _packed_values(values, slots, VALUE_BITS, D, OWN, group, WIDE, ASM)
                new_acc = new_acc + (tl.dot(weight, v, acc[group] * alpha[:, None], input_precision=PRECISION),)
            acc, zero_acc = new_acc, offsets
    l_safe = tl.where(l_i > 0, l_i, 1.0)
    channels, in_head = _places(OWN, VALUE_BITS)
    unscale = tl.zeros(channels.shape, tl.float32)
    for part in tl.static_range(parts(VALUE_BITS)):
        unscale = tl.where(channels % parts(VALUE_BITS) == part, 1 / size(VALUE_BITS, part), unscale)
    mask = row_mask[:, None] & in_head[None, :]
    for group in tl.static_range(SHARING):
        out = (acc[group] * unscale[None, :] + zero_acc[group][:, None]) / l_safe[:, None]
        tl.store(outputs + rows[:, None] * D + (channels + group * OWN)[None, :], out, mask=mask)
    tl.store(sums + rows, m_i + tl.log2(l_safe), mask=row_mask)
