"""Eight NF4 codes of a word to eight numbers, and what else a product reads word by word, in Triton.

A word is decoded where it lies: each function gives eight tensors, one for each place in the word, so that no numbers
change threads. `DECODE` chooses how the table of sixteen is looked up:

- "load": from memory. Portable, and the only one that the interpreter can run.
- "shuffle": every thread of a warp holds one entry, and asks the one that holds what it needs. Exact.
- "permute": the table lies in eight registers as halves of float16, and bytes are picked from them. Rounds the table to
  eleven bits.
- "mixed": half of each, since the two use different units of the processor.

The last three are PTX for NVIDIA. Loads in PTX are marked free of side effects, so that the compiler merges those of
one address; what `tl.load` reads twice is read twice.
"""

# Triton's language has no types that a checker could follow.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl

from engine.kernels.linear.weights import BLOCK, NEST

_PLACES = (1, 0, 3, 2, 5, 4, 7, 6)
"""Which four bits of a word, from the lowest, hold each of its codes: the first of two is the high half of a byte."""


def _shuffled(numbers: tuple[int, ...]) -> str:
    """PTX: output `i` becomes the entry of code `i`, for some of a word's eight codes; $8 word, $9 this thread's entry.

    The shuffle's limits make it look at the low four bits of the shifted word alone.
    """
    lines = ["{ .reg .b32 at;"]
    for number in numbers:
        lines.append(f"shr.b32 at, $8, {4 * _PLACES[number]};")
        lines.append(f"shfl.sync.idx.b32 ${number}, $9, at, 0x101f, 0xffffffff;")
    return "\n".join([*lines, "}"])


def _permuted(halves: tuple[int, ...]) -> str:
    """PTX: the numbers of the lower four codes of a word (half 0), of the upper four (half 1), or of both.

    $8 word, $10 to $13 the low bytes of the table, $14 to $17 the high bytes, four entries each. A byte permutation
    takes the low 16 bits of the word as four indices into eight bytes: low and high bytes are looked up for codes below
    eight and from eight on, the fourth bit of each code chooses between the two, and low and high bytes are put side by
    side.
    """
    lines = [
        "{ .reg .b32 at, pick, a, b, l, h; .reg .b16 x, y;",
        "and.b32 at, $8, 0x77777777;",
        "shr.b32 pick, $8, 1;",
        "lop3.b32 pick, pick, 0x44444444, 0x32103210, 0xea;",
    ]
    for half in halves:
        if half:
            lines += ["shr.b32 at, at, 16;", "shr.b32 pick, pick, 16;"]
        for name, low in (("l", 10), ("h", 14)):
            lines += [
                f"prmt.b32 a, ${low}, ${low + 1}, at;",
                f"prmt.b32 b, ${low + 2}, ${low + 3}, at;",
                f"prmt.b32 {name}, a, b, pick;",
            ]
        for pair, order in enumerate(("0x5140", "0x7362")):
            first = _PLACES.index(4 * half + 2 * pair)
            second = _PLACES.index(4 * half + 2 * pair + 1)
            lines += [
                f"prmt.b32 a, l, h, {order};",
                "mov.b32 {x, y}, a;",
                f"cvt.f32.f16 ${first}, x;",
                f"cvt.f32.f16 ${second}, y;",
            ]
    return "\n".join([*lines, "}"])


def _table_bytes() -> str:
    """PTX: the table of sixteen float32 at $8 as float16, low bytes in $0 to $3, high bytes in $4 to $7."""
    lines = ["{ .reg .f32 f<16>; .reg .b32 p, q;"]
    for part in range(4):
        f = [f"f{4 * part + i}" for i in range(4)]
        lines += [
            f"ld.global.nc.v4.f32 {{{', '.join(f)}}}, [$8 + {16 * part}];",
            f"cvt.rn.f16x2.f32 p, {f[1]}, {f[0]}; cvt.rn.f16x2.f32 q, {f[3]}, {f[2]};",
            f"prmt.b32 ${part}, p, q, 0x6420; prmt.b32 ${part + 4}, p, q, 0x7531;",
        ]
    return "\n".join([*lines, "}"])


_EIGHT = "=f,=f,=f,=f,=f,=f,=f,=f"
# Outputs that are written before the last input is read must not share its register.
_EIGHT_EARLY = _EIGHT.replace("=", "=&")
_OUTPUTS = tl.constexpr(_EIGHT_EARLY + ",r,f" + ",r" * 8)
_SHUFFLE = tl.constexpr(_shuffled(tuple(range(8))))
_PERMUTE = tl.constexpr(_permuted((0, 1)))
_TABLE = tl.constexpr(_table_bytes())
_TABLE_OUTPUTS = tl.constexpr(_EIGHT_EARLY.replace("f", "r") + ",l")
_MIXED = tl.constexpr(_shuffled((0, 1, 2, 3)) + "\n" + _permuted((1,)))

# Not `nc`: x is written by the launch before, which a launch that overlaps with it must not overtake.
_WIDE_BF16 = tl.constexpr(
    "{ .reg .b32 a, b, c, d; ld.global.v4.b32 {a, b, c, d}, [$8];"
    + " ".join(
        f"shl.b32 ${2 * i}, {name}, 16; and.b32 ${2 * i + 1}, {name}, 0xffff0000;" for i, name in enumerate("abcd")
    )
    + " }"
)
_WIDE_FP16 = tl.constexpr(
    "{ .reg .b32 a, b, c, d; .reg .b16 x, y; ld.global.v4.b32 {a, b, c, d}, [$8];"
    + " ".join(
        f"mov.b32 {{x, y}}, {name}; cvt.f32.f16 ${2 * i}, x; cvt.f32.f16 ${2 * i + 1}, y;"
        for i, name in enumerate("abcd")
    )
    + " }"
)
_WIDE_FP32 = tl.constexpr("ld.global.v4.b32 {$0, $1, $2, $3}, [$8]; ld.global.v4.b32 {$4, $5, $6, $7}, [$8 + 16];")
_WIDE = tl.constexpr(_EIGHT_EARLY + ",l")
_BLOCK = tl.constexpr(BLOCK)
_NEST = tl.constexpr(NEST)
_WORDS = tl.constexpr(BLOCK // 8)


@triton.jit
def held_table(table, ROWS: tl.constexpr, WORDS: tl.constexpr, DECODE: tl.constexpr):
    """What each thread holds of the table (16,) while words (ROWS, WORDS) are decoded: its own entry, and the bytes."""
    if DECODE == "load":
        return (table,)
    else:
        zeros = tl.full((ROWS, WORDS), 0, tl.int32)
        lane = tl.inline_asm_elementwise("mov.u32 $0, %laneid;", "=r,r", [zeros], dtype=tl.int32, is_pure=True, pack=1)
        parts = tl.inline_asm_elementwise(
            _TABLE,
            _TABLE_OUTPUTS,
            [(table + zeros).to(tl.int64, bitcast=True)],
            dtype=(tl.int32,) * 8,
            is_pure=True,
            pack=1,
        )
        p0, p1, p2, p3, p4, p5, p6, p7 = parts
        return (_float_at(table + (lane & 15), DECODE), p0, p1, p2, p3, p4, p5, p6, p7)


@triton.jit
def decoded(words, held, DECODE: tl.constexpr):
    """The eight numbers of each word."""
    if DECODE == "load":
        return (
            tl.load(held[0] + ((words >> 4) & 15)),
            tl.load(held[0] + (words & 15)),
            tl.load(held[0] + ((words >> 12) & 15)),
            tl.load(held[0] + ((words >> 8) & 15)),
            tl.load(held[0] + ((words >> 20) & 15)),
            tl.load(held[0] + ((words >> 16) & 15)),
            tl.load(held[0] + ((words >> 28) & 15)),
            tl.load(held[0] + ((words >> 24) & 15)),
        )
    else:
        ASM: tl.constexpr = _SHUFFLE if DECODE == "shuffle" else (_PERMUTE if DECODE == "permute" else _MIXED)
        return tl.inline_asm_elementwise(
            ASM,
            _OUTPUTS,
            [words, held[0], held[1], held[2], held[3], held[4], held[5], held[6], held[7], held[8]],
            dtype=(tl.float32,) * 8,
            is_pure=True,
            pack=1,
        )


@triton.jit
def eight(x, at, DECODE: tl.constexpr):
    """x[at], x[at + 1], ... x[at + 7] in float32; each `at` is a multiple of eight."""
    if DECODE == "load":
        return (
            tl.load(x + at).to(tl.float32),
            tl.load(x + at + 1).to(tl.float32),
            tl.load(x + at + 2).to(tl.float32),
            tl.load(x + at + 3).to(tl.float32),
            tl.load(x + at + 4).to(tl.float32),
            tl.load(x + at + 5).to(tl.float32),
            tl.load(x + at + 6).to(tl.float32),
            tl.load(x + at + 7).to(tl.float32),
        )
    else:
        HALF: tl.constexpr = _WIDE_BF16 if x.dtype.element_ty == tl.bfloat16 else _WIDE_FP16
        ASM: tl.constexpr = _WIDE_FP32 if x.dtype.element_ty == tl.float32 else HALF
        return tl.inline_asm_elementwise(
            ASM, _WIDE, [(x + at).to(tl.int64, bitcast=True)], dtype=(tl.float32,) * 8, is_pure=True, pack=1
        )


@triton.jit
def block_scale(scales, nest_table, nest_scales, offset, block, NESTED: tl.constexpr, DECODE: tl.constexpr):
    """The scale of each block of 64 weights; `offset` is a number."""
    if NESTED:
        if DECODE == "load":
            code = tl.load(scales + block).to(tl.int32)
        else:
            code = tl.inline_asm_elementwise(
                "ld.global.nc.u8 $0, [$1];",
                "=r,l",
                [(scales + block).to(tl.int64, bitcast=True)],
                dtype=tl.int32,
                is_pure=True,
                pack=1,
            )
        return _float_at(nest_table + code, DECODE) * _float_at(nest_scales + block // _NEST, DECODE) + offset
    else:
        return _float_at(scales + block, DECODE)


@triton.jit
def _float_at(pointer, DECODE: tl.constexpr):
    if DECODE == "load":
        return tl.load(pointer)
    else:
        return tl.inline_asm_elementwise(
            "ld.global.nc.f32 $0, [$1];",
            "=f,l",
            [pointer.to(tl.int64, bitcast=True)],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
