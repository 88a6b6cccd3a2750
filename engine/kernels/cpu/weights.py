"""Weights of bfloat16 as a processor reads them quickest, and one vector times a group of their rows.

A group is ROWS rows of a matrix (N, K). In 32-bit words: (groups, K / 32, 4, ROWS) of eight codes of 4 bits, the
first lowest, with scale and offset (groups, K / 32, 2, ROWS) in float32; or (groups, K / 2, ROWS) of two numbers of
bfloat16, the first in the low half.

A code q stands for bfloat16(fma(q, scale, offset)), so both are exact: a file of GGUF in Q4_0 or Q4_1 leaves at most 16
evenly spaced numbers in 32, rounded once.
"""

import numpy as np
from numba import float32, int32, njit

from engine.kernels.cpu.intrinsics import bits_of, float_of, fma
from engine.kernels.cpu.sizes import BLOCK, ROWS

_HIGH = -0x10000
_WITHIN, _UP_TO = float32(1 - 2.0**-12), float32(1 - 2.0**-20)
"""Of an interval's half: its ends are rounded to it only where that is even."""


@njit(inline="always")
def _weight(code, scale, offset):
    """To the nearest bfloat16, even where two are as near (Veltkamp's splitting: the first 8 bits of 24)."""
    wide = fma(float32(code), scale, offset)
    return fma(wide, float32(65536), -(wide * float32(65535)))


@njit
def _shortened(number, bits):
    """A number to so many bits, as float32."""
    unit = 2.0 ** (np.floor(np.log2(abs(number))) - bits + 1) if number else 1.0
    return float32(np.rint(number / unit) * unit)


@njit
def _gives(row, codes, scale, offset):
    off = 0
    for place in range(BLOCK):
        off += _weight(codes[place], scale, offset) != row[place]
    return off == 0


@njit
def _found(row, codes, scale, offset, zero, bits, found):
    """Whether these, to so many bits, give a row's block; a code that stands for zero must give that exactly."""
    found[0] = _shortened(scale, bits)
    found[1] = _shortened(offset, bits) if zero < 0 else -found[0] * zero
    return _gives(row, codes, found[0], found[1])


@njit
def _fit(row, steps, margin, codes, lowest, highest, found):
    """Whether scale and offset can be `found` that give a row's block, as `steps` even steps from least to most.

    Every number allows an interval of what is rounded to it, so the offset lies between bounds that are linear in the
    scale. The room between them is concave, so that the scale with the most room is found by halving. Where there is
    but a point, it is of few bits, as the file had it.
    """
    least, most = row.min(), row.max()
    step = (np.float64(most) - least) / steps
    if step == 0:
        codes[:] = 0
        found[0], found[1] = 0, least
        return True
    lowest[:], highest[:] = -np.inf, np.inf
    zero = -1
    for place in range(BLOCK):
        code = int32(np.rint((row[place] - least) / step))
        codes[place] = code
        if row[place] == 0:
            zero = code
        # Half of what two neighbours of bfloat16 are apart; below a power of two they are closer.
        bits = bits_of(row[place])
        half = float_of(int32(bits & 0x7F800000)) * float32(2.0**-8) * margin
        inner = half if bits & 0x7FFFFF else half / 2
        below, above = (inner, half) if row[place] > 0 else (half, inner)
        lowest[code], highest[code] = max(lowest[code], row[place] - below), min(highest[code], row[place] + above)
        if lowest[code] > highest[code]:
            return False
    low, high = step * 0.9, step * 1.1
    scale = offset = 0.0
    for _ in range(48):
        scale = (low + high) / 2
        under, over = np.inf, -np.inf
        falling = rising = 0
        for code in range(16):
            if highest[code] - code * scale < under:
                under, falling = highest[code] - code * scale, code
            if lowest[code] - code * scale > over:
                over, rising = lowest[code] - code * scale, code
        offset = (under + over) / 2
        if zero >= 0:
            offset = -scale * zero
            falling, rising = (falling, zero) if under < offset else (zero, rising)
        if under >= over and _found(row, codes, scale, offset, zero, 24 if zero < 0 else 18, found):
            return True
        if falling > rising:
            high = scale
        elif falling < rising:
            low = scale
        else:
            break
    return _found(row, codes, scale, offset, zero, 11, found)


@njit("boolean(float32[:, ::1], int32[:, :, :, ::1], float32[:, :, :, ::1], int64, int64)", nogil=True, cache=True)
def encode(matrix, codes, scales, start, stop):
    """Find the codes of groups start..stop of a matrix (N, K); False as soon as a block has none."""
    lowest, highest = np.empty(16, np.float32), np.empty(16, np.float32)
    row_codes = np.empty(BLOCK, np.int32)
    for group in range(start, stop):
        for lane in range(ROWS):
            for block in range(matrix.shape[1] // BLOCK):
                row = matrix[group * ROWS + lane, block * BLOCK : (block + 1) * BLOCK]
                steps = 15
                while steps:
                    found = scales[group, block, :, lane]
                    if _fit(row, steps, _WITHIN, row_codes, lowest, highest, found):
                        break
                    if _fit(row, steps, _UP_TO, row_codes, lowest, highest, found):
                        break
                    steps -= 1
                if not steps:
                    return False
                for word in range(4):
                    packed = 0
                    for place in range(8):
                        packed |= row_codes[word * 8 + place] << 4 * place
                    codes[group, block, word, lane] = int32(packed)
    return True


@njit
def by_codes(codes, scales, x, out):
    """A group's rows times x (K,), added to `out` (ROWS,)."""
    for block in range(len(x) // BLOCK):
        scale, offset = scales[block * 2 * ROWS :][:ROWS], scales[(block * 2 + 1) * ROWS :][:ROWS]
        for at in range(block * 4, block * 4 + 4):
            word, k = codes[at * ROWS :][:ROWS], at * 8
            x0, x1, x2, x3, x4, x5, x6, x7 = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
            for lane in range(ROWS):
                bits, d, m = word[lane], scale[lane], offset[lane]
                # Two sums, so that one need not wait for the other.
                even = _weight(int32(bits & 15), d, m) * x0
                odd = fma(_weight(int32((bits >> 4) & 15), d, m), x1, out[lane])
                even = fma(_weight(int32((bits >> 8) & 15), d, m), x2, even)
                odd = fma(_weight(int32((bits >> 12) & 15), d, m), x3, odd)
                even = fma(_weight(int32((bits >> 16) & 15), d, m), x4, even)
                odd = fma(_weight(int32((bits >> 20) & 15), d, m), x5, odd)
                even = fma(_weight(int32((bits >> 24) & 15), d, m), x6, even)
                odd = fma(_weight(int32((bits >> 28) & 15), d, m), x7, odd)
                out[lane] = even + odd


@njit
def by_halves(pairs, x, out):
    """As `by_codes`, of numbers of bfloat16."""
    for at in range(len(x) // 8):
        k = at * 8
        w0, w1 = pairs[at * 4 * ROWS :][:ROWS], pairs[(at * 4 + 1) * ROWS :][:ROWS]
        w2, w3 = pairs[(at * 4 + 2) * ROWS :][:ROWS], pairs[(at * 4 + 3) * ROWS :][:ROWS]
        x0, x1, x2, x3, x4, x5, x6, x7 = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
        for lane in range(ROWS):
            even = float_of(int32(w0[lane] << 16)) * x0
            odd = fma(float_of(int32(w0[lane] & _HIGH)), x1, out[lane])
            even = fma(float_of(int32(w1[lane] << 16)), x2, even)
            odd = fma(float_of(int32(w1[lane] & _HIGH)), x3, odd)
            even = fma(float_of(int32(w2[lane] << 16)), x4, even)
            odd = fma(float_of(int32(w2[lane] & _HIGH)), x5, odd)
            even = fma(float_of(int32(w3[lane] << 16)), x6, even)
            odd = fma(float_of(int32(w3[lane] & _HIGH)), x7, odd)
            out[lane] = even + odd
