"""Packed codes to numbers inside a kernel: 16-bit units of a row, taken apart bit field by bit field.

A unit holds 16 / BITS codes of neighbouring channels, low bits first. Field `PART` of every unit is one slice of the
channels: PART, PARTS + PART, 2 * PARTS + PART, ... A dot product over channels does not mind that order.

A field is not moved out of its unit if it can stay: its bits alone are a float16 below the normal ones, which is
code * 2 ** (place - 24) and which tensor cores take as any other. So a code costs half a logic operation, and whoever
multiplies by it owes it `size`.
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
def _shift(bits, part):
    """How far a field must be moved down to lie in the ten bits of a float16's fraction: as rarely as possible."""
    if bits in (3, 16):
        return 0
    return 0 if (part + 1) * bits <= 10 else 10 - 10 % bits if bits == 2 else 8


@triton.constexpr_function
def size(bits, part):
    """What the number 1 is worth in `field` PART: a power of two."""
    if bits == 16:
        return 1.0
    place = 0 if bits == 3 else part * bits - _shift(bits, part)
    return 2.0 ** (place - 24)


@triton.constexpr_function
def largest(bits):
    """The largest of the sizes; the least is that of the first field."""
    return max(size(bits, part) for part in range(parts(bits)))


@triton.constexpr_function
def _assembly(bits, part):
    """Two units at once to their fields; of three bits, two are in the first operand and one in the second."""
    if bits == 3:
        third = f"shl.b32 h, $2, {2 - part};" if part < 2 else f"shr.u32 h, $2, {part - 2};"
        pick = "lop3.b32 t, t, h, 0x00030003, 0xE4; and.b32 $0, t, 0x00070007;"
        return "{ .reg .b32 t, h; " + f"shr.u32 t, $1, {2 * part}; {third} {pick}" + " }"
    shift = _shift(bits, part)
    if bits == 8:
        return "and.b32 $0, $1, 0x00ff00ff;" if part == 0 else "prmt.b32 $0, $1, 0, 0x4341;"
    mask = ((1 << bits) - 1) << (part * bits - shift)
    line = f"shr.u32 t, $1, {shift}; and.b32 $0, t," if shift else "and.b32 $0, $1,"
    return "{ .reg .b32 t; " + f"{line} 0x{mask:04x}{mask:04x};" + " }"


@triton.jit
def field(units, high, BITS: tl.constexpr, PART: tl.constexpr, ASM: tl.constexpr):
    """Field PART of int16 units as float16, code * size; `high` holds third bits (int16), if there are three."""
    if ASM and BITS == 3:
        return tl.inline_asm_elementwise(
            _assembly(BITS, PART), "=r,r,r", [units, high], dtype=tl.float16, is_pure=True, pack=2
        )
    if ASM:
        return tl.inline_asm_elementwise(_assembly(BITS, PART), "=r,r", [units], dtype=tl.float16, is_pure=True, pack=2)
    if BITS == 3:
        picked = ((units >> (2 * PART)) & 3) | (((high >> PART) & 1) << 2)
    else:
        SHIFT: tl.constexpr = _shift(BITS, PART)
        picked = (units >> SHIFT) & (((1 << BITS) - 1) << (BITS * PART - SHIFT))
    return picked.to(tl.float16, bitcast=True)


@triton.jit
def half(words, PART: tl.constexpr):
    """Float16 number PART of integers that hold several, low bits first."""
    return (words >> (16 * PART)).to(tl.int16).to(tl.float16, bitcast=True)
