"""Keys and values to few bits in one launch for all KV heads of a layer: the same bits as quant.quantize.

Eight and four bits; two and three, whose ranges are searched, go through PyTorch.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core import quant
from engine.core.quant import GROUP, Packed, channel_group, scale_shape
from engine.kernels.card import card_of
from engine.kernels.quant.hadamard import chunk_of, rotate_loaded, signs_of


@triton.jit
def _coded(wide, low, high, BITS: tl.constexpr, RECIPROCAL: tl.constexpr):
    """Codes of numbers, from the least and the greatest of their groups; and scales and zero points in float16."""
    # As stored, before codes are chosen. Minus zero becomes zero.
    zero = (low + 0.0).to(tl.float16)
    if RECIPROCAL:
        # PyTorch divides by a number like this on a GPU.
        scale = (high - low) * (1.0 / ((1 << BITS) - 1))
    else:
        scale = tl.div_rn(high - low, tl.zeros_like(low) + ((1 << BITS) - 1))
    scale = tl.maximum(scale.to(tl.float16).to(tl.float32), 6.103515625e-05)
    steps = tl.div_rn(wide - zero.to(tl.float32), scale + tl.zeros_like(wide))
    # To the nearest whole number, the even one of two: what is left of a sum with 1.5 * 2^23.
    steps = (steps + 12582912.0) - 12582912.0
    codes = tl.minimum(tl.maximum(steps, 0.0), (1 << BITS) - 1.0)
    return codes.to(tl.int32).to(tl.uint8), scale.to(tl.float16), zero


@triton.jit
def _quantize(
    rows, codes, scales, zeros, signs, count, row_head, row_token, code_head, scale_head, length,
    BITS: tl.constexpr, PER_TOKEN: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, GROUPS: tl.constexpr,
    GROUP: tl.constexpr, ROTATE: tl.constexpr, CHUNK: tl.constexpr, RECIPROCAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """GROUP tokens of one KV head; `signs` (D, D) and `length` as in rotate_loaded."""
    group, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    tokens, channels = group * GROUP + tl.arange(0, GROUP), tl.arange(0, WIDTH)
    inside = (tokens < count)[:, None] & (channels < D)[None, :]
    row = rows + head * row_head + tokens[:, None].to(tl.int64) * row_token
    if ROTATE:
        x = rotate_loaded(row, tokens < count, signs, length, D, WIDTH, CHUNK, PRECISION).to(rows.dtype.element_ty)
    else:
        x = tl.load(row + channels[None, :], mask=inside, other=0.0)
    wide = x.to(tl.float32)
    least, most = tl.where(inside, wide, float("inf")), tl.where(inside, wide, float("-inf"))
    if PER_TOKEN:
        SPAN: tl.constexpr = WIDTH // GROUPS
        low = tl.min(tl.reshape(least, (GROUP, GROUPS, SPAN)), 2)
        high = tl.max(tl.reshape(most, (GROUP, GROUPS, SPAN)), 2)
        # Tokens behind the last one have no range.
        present = (tokens < count)[:, None] & (tl.arange(0, GROUPS) < GROUPS)[None, :]
        low, high = tl.where(present, low, 0.0), tl.where(present, high, 0.0)
        wide = tl.reshape(wide, (GROUP, GROUPS, SPAN))
        code, scale, zero = _coded(wide, low[:, :, None], high[:, :, None], BITS, RECIPROCAL)
        code = tl.reshape(code, (GROUP, WIDTH))
        places = head * scale_head + tokens[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
        tl.store(scales + places, tl.reshape(scale, (GROUP, GROUPS)), mask=present)
        tl.store(zeros + places, tl.reshape(zero, (GROUP, GROUPS)), mask=present)
    else:
        own = channels < D
        low, high = tl.where(own, tl.min(least, 0), 0.0), tl.where(own, tl.max(most, 0), 0.0)
        code, scale, zero = _coded(wide, low[None, :], high[None, :], BITS, RECIPROCAL)
        places = head * scale_head + group * D + channels
        tl.store(scales + places, tl.reshape(scale, (WIDTH,)), mask=own)
        tl.store(zeros + places, tl.reshape(zero, (WIDTH,)), mask=own)
    if BITS == 4:
        low_code, high_code = tl.split(tl.reshape(code, (GROUP, WIDTH // 2, 2)))
        code = low_code | (high_code << 4)
    columns = tl.arange(0, WIDTH * BITS // 8)
    stored = (tokens < count)[:, None] & (columns < D * BITS // 8)[None, :]
    place = codes + head * code_head + tokens[:, None].to(tl.int64) * (D * BITS // 8)
    tl.store(place + columns[None, :], code, mask=stored)


def quantize(rows: Tensor, bits: int, per: str, rotation: Tensor | None = None) -> list[Packed]:
    """Rows (G, N, D) of every KV head in so many bits, rotated first by `rotation` (D, D) where it is given."""
    heads, count, dim = rows.shape
    if bits not in (4, 8) or not count:
        if rotation is not None:
            rows = quant.rotated(rows, rotation)
        return [quant.quantize(each, bits, per) for each in rows]
    shape = scale_shape(count, dim, per)
    codes = torch.empty(heads, count, dim * bits // 8, dtype=torch.uint8, device=rows.device)
    # Each head's part begins where kernels can read 16 bytes at once.
    entries = math.prod(shape)
    room = torch.empty(2, heads, -(-entries // 8) * 8, dtype=torch.float16, device=rows.device)
    scales, zeros = room[..., :entries].view(2, heads, *shape)
    quantize_into(rows, Packed(bits, per, codes, scales, zeros), rotation)
    return [Packed(bits, per, codes[head], scales[head], zeros[head]) for head in range(heads)]


def quantize_into(rows: Tensor, into: Packed, rotation: Tensor | None = None) -> None:
    """Rows (G, N, D), rotated first by `rotation` (D, D) if it is given, into a Packed with a leading G: heads may lie
    apart, each head's rows may not."""
    heads, count, dim = rows.shape
    if into.bits not in (4, 8):
        quant.quantize_into(rows, into, rotation)
        return
    signs, length = (rows, 1.0) if rotation is None else signs_of(rotation, rows.dtype)
    assert rows.stride(2) == 1 and into.codes.stride()[1:] == (dim * into.bits // 8, 1)
    assert into.scales.stride() == into.zeros.stride()
    _quantize[triton.cdiv(count, GROUP), heads](
        rows, into.codes, into.scales, into.zeros, signs, count, rows.stride(0), rows.stride(1), into.codes.stride(0),
        into.scales.stride(0), length,
        BITS=into.bits, PER_TOKEN=into.per == "token", D=dim, WIDTH=triton.next_power_of_2(dim),
        GROUPS=dim // channel_group(dim), GROUP=GROUP, ROTATE=rotation is not None,
        CHUNK=chunk_of(GROUP, rows), RECIPROCAL=card_of(rows.device).ptx,
        PRECISION="ieee" if rows.dtype == torch.float32 else "tf32", num_warps=8 if dim > 64 else 4,
    )  # fmt: skip
