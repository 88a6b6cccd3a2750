"""Eight NF4 codes of a word to eight numbers, and what else a product reads word by word, in Triton.

A word is decoded where it lies: each function gives eight tensors, one for each place in the word, so that no numbers
change threads. With ASM (PTX of NVIDIA GPUs) every thread of a warp holds one entry of the table of sixteen, and asks
the one that holds what it needs; without, the table is read from memory, which the interpreter can do, too.

Loads in PTX are marked free of side effects, so that the compiler merges those of one address; what `tl.load` reads
twice is read twice.
"""

import triton
import triton.language as tl

from engine.kernels.linear.weights import BLOCK, NEST

_PLACES = (1, 0, 3, 2, 5, 4, 7, 6)
"""Which four bits of a word, from the lowest, hold each of its codes: the first of two is the high half of a byte."""


def _shuffled() -> str:
    """PTX: output `i` becomes the entry of a word's code `i`; $8 word, $9 this thread's entry.

    The shuffle's limits make it look at the low four bits of the shifted word alone.
    """
    lines = ["{ .reg .b32 at;"]
    for number, place in enumerate(_PLACES):
        lines.append(f"shr.b32 at, $8, {4 * place};")
        lines.append(f"shfl.sync.idx.b32 ${number}, $9, at, 0x101f, 0xffffffff;")
    return "\n".join([*lines, "}"])


# Outputs that are written before the last input is read must not share its register.
_EIGHT = "=&f,=&f,=&f,=&f,=&f,=&f,=&f,=&f"
_SHUFFLE = tl.constexpr(_shuffled())
_SHUFFLE_OPERANDS = tl.constexpr(_EIGHT + ",r,f")

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
_WIDE = tl.constexpr(_EIGHT + ",l")
_BLOCK = tl.constexpr(BLOCK)
_NEST = tl.constexpr(NEST)
_WORDS = tl.constexpr(BLOCK // 8)


@triton.jit
def table_entries(table, ROWS: tl.constexpr, WORDS: tl.constexpr, ASM: tl.constexpr):
    """What threads hold of the table (16,) while words (ROWS, WORDS) are decoded: an entry each; else where it is."""
    if ASM:
        zeros = tl.full((ROWS, WORDS), 0, tl.int32)
        lane = tl.inline_asm_elementwise("mov.u32 $0, %laneid;", "=r,r", [zeros], dtype=tl.int32, is_pure=True, pack=1)
        return _float_at(table + (lane & 15), ASM)
    else:
        return table


@triton.jit
def decoded(words, entries, ASM: tl.constexpr):
    """The eight numbers of each word; `entries` as of table_entries."""
    if ASM:
        return tl.inline_asm_elementwise(
            _SHUFFLE, _SHUFFLE_OPERANDS, [words, entries], dtype=(tl.float32,) * 8, is_pure=True, pack=1
        )
    else:
        return (
            tl.load(entries + ((words >> 4) & 15)),
            tl.load(entries + (words & 15)),
            tl.load(entries + ((words >> 12) & 15)),
            tl.load(entries + ((words >> 8) & 15)),
            tl.load(entries + ((words >> 20) & 15)),
            tl.load(entries + ((words >> 16) & 15)),
            tl.load(entries + ((words >> 28) & 15)),
            tl.load(entries + ((words >> 24) & 15)),
        )


@triton.jit
def eight(x, at, ASM: tl.constexpr):
    """x[at], x[at + 1], ... x[at + 7] in float32; each `at` is a multiple of eight."""
    if not ASM:
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
        LOAD: tl.constexpr = _WIDE_FP32 if x.dtype.element_ty == tl.float32 else HALF
        return tl.inline_asm_elementwise(
            LOAD, _WIDE, [(x + at).to(tl.int64, bitcast=True)], dtype=(tl.float32,) * 8, is_pure=True, pack=1
        )


@triton.jit
def block_scale(scales, nest_table, nest_scales, offset, block, NESTED: tl.constexpr, ASM: tl.constexpr):
    """The scale of each block of 64 weights; `offset` is a number."""
    if NESTED:
        if not ASM:
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
        return _float_at(nest_table + code, ASM) * _float_at(nest_scales + block // _NEST, ASM) + offset
    else:
        return _float_at(scales + block, ASM)


@triton.jit
def _float_at(pointer, ASM: tl.constexpr):
    if not ASM:
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
