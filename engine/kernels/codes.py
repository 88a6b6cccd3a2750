"""Packed codes to numbers inside a kernel: 16-bit units of a row, taken apart bit field by bit field.

A unit holds 16 / BITS codes of neighbouring channels, low bits first. Field `PART` of every unit is one slice of the
channels: PART, PARTS + PART, 2 * PARTS + PART, ... A dot product over channels does not mind that order.
"""

import triton
import triton.language as tl


@triton.constexpr_function
def parts(bits):
    """Slices that the channels of a row fall into; three bits are stored as two and one."""
    return {16: 1, 3: 8}.get(bits, 16 // bits)


@triton.constexpr_function
def width(dim, bits):
    """Numbers of a slice, padded to what a tensor core takes."""
    return max(16, triton.next_power_of_2(dim // parts(bits)))


@triton.constexpr_function
def _half(number):
    """The bits of two equal float16 numbers, which must be ones that float16 has."""
    size, exponent = abs(number), 15
    while size >= 2:
        size, exponent = size / 2, exponent + 1
    while size < 1:
        size, exponent = size * 2, exponent - 1
    bits = (number < 0) << 15 | exponent << 10 | int((size - 1) * 1024)
    return f"0x{bits:04x}{bits:04x}"


@triton.constexpr_function
def _assembly(bits, part, centre, scaled):
    """Two units at once to `code - centre`, times a scale plus a zero point if `scaled`, as two float16.

    A code placed in the mantissa of 1024 is 1024 + code * 2^j: one logic operation, and one fused multiply-add takes
    the 1024 off again.
    """
    shift = part * bits
    place = shift % 8
    field = ((1 << bits) - 1) << place
    lines = [f"shr.u32 t, $1, {shift - place};" if shift >= 8 else "mov.b32 t, $1;"]
    lines.append(f"lop3.b32 t, t, 0x{field:04x}{field:04x}, 0x64006400, 0xEA;")
    out = "t" if scaled else "$0"
    if place:
        lines.append(f"mov.b32 m, {_half(2.0**-place)}; mov.b32 c, {_half(-(1024 * 2.0**-place + centre))};")
        lines.append(f"fma.rn.f16x2 {out}, t, m, c;")
    else:
        lines.append(f"mov.b32 c, {_half(1024 + centre)}; sub.f16x2 {out}, t, c;")
    if scaled:
        lines.append("fma.rn.f16x2 $0, t, $2, $3;")
    return "{ .reg .b32 t, m, c; " + " ".join(lines) + " }"


@triton.jit
def field(units, high, BITS: tl.constexpr, PART: tl.constexpr, CENTRE: tl.constexpr, ASM: tl.constexpr):
    """Field PART of int16 units as float16 less CENTRE; `high` holds third bits (uint8), if there are three."""
    if ASM and BITS != 3:
        return tl.inline_asm_elementwise(
            _assembly(BITS, PART, CENTRE, False), "=r,r", [units], dtype=tl.float16, is_pure=True, pack=2
        )
    if BITS == 3:
        picked = ((units >> (2 * PART)) & 3) | (((high >> PART) & 1) << 2).to(tl.int16)
    else:
        picked = (units >> (BITS * PART)) & ((1 << BITS) - 1)
    return (picked | 0x6400).to(tl.float16, bitcast=True) - (1024 + CENTRE)


@triton.jit
def scaled_field(
    units, high, scale, zero, BITS: tl.constexpr, PART: tl.constexpr, WIDE: tl.constexpr, ASM: tl.constexpr
):
    """Field PART times a scale plus a zero point (float16, broadcast to the units), in the dtype WIDE."""
    if ASM and BITS != 3:
        return tl.inline_asm_elementwise(
            _assembly(BITS, PART, 0, True), "=r,r,r,r", [units, scale, zero], dtype=tl.float16, is_pure=True, pack=2
        )
    return field(units, high, BITS, PART, 0, ASM).to(WIDE) * scale.to(WIDE) + zero.to(WIDE)


@triton.jit
def halves(words):
    """The float16 in the low and in the high half of int32."""
    return words.to(tl.int16).to(tl.float16, bitcast=True), (words >> 16).to(tl.int16).to(tl.float16, bitcast=True)


@triton.jit
def split(words, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    """Float16 of all channels, two in an int32 (WIDTH * PARTS / 2,), by slice; the first PARTS of eight values count.

    Words, since a load of less than four bytes a thread is not made ahead of time.
    """
    if PARTS == 2:
        a, b = halves(words)
        return a, b, a, a, a, a, a, a
    elif PARTS == 4:
        first, second = tl.split(tl.reshape(words, (WIDTH, 2)))
        a, b = halves(first)
        c, d = halves(second)
        return a, b, c, d, a, a, a, a
    else:
        even, odd = tl.split(tl.reshape(words, (WIDTH, 2, 2)))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        a, b = halves(first)
        c, d = halves(second)
        e, f = halves(third)
        g, h = halves(fourth)
        return a, b, c, d, e, f, g, h
