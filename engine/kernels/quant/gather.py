"""Chosen rows of many packed tensors to numbers, in one launch: what a passage needs of every layer and KV head."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.quant import GROUP, Packed, channel_group

_ROWS = 32
"""That a program takes."""


@triton.jit
def _gather(
    table, owners, places, out, count, BITS: tl.constexpr, PER_TOKEN: tl.constexpr, D: tl.constexpr,
    WIDTH: tl.constexpr, SPAN: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Rows of `out` (N, D); `table` (R, 3) holds the addresses of codes, scales and zero points of each owner."""
    number, channels = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)[None, :]
    inside = (number < count)[:, None] & (channels < D)
    owner = tl.load(table + tl.load(owners + number, mask=number < count, other=0) * 3)[:, None]
    place = tl.load(places + number, mask=number < count, other=0).to(tl.int64)[:, None]
    if BITS == 16:
        codes = owner.to(tl.pointer_type(out.dtype.element_ty))
        wide = tl.load(codes + place * D + channels, mask=inside, other=0.0).to(tl.float32)
    else:
        row = owner.to(tl.pointer_type(tl.uint8)) + place * (D * BITS // 8)
        if BITS == 3:
            # Two low bits of every channel, then its third.
            low = tl.load(row + channels // 4, mask=inside, other=0) >> (channels % 4 * 2).to(tl.uint8)
            high = tl.load(row + D // 4 + channels // 8, mask=inside, other=0) >> (channels % 8).to(tl.uint8)
            code = (low & 3) | ((high & 1) << 2)
        else:
            byte = tl.load(row + channels * BITS // 8, mask=inside, other=0)
            code = (byte >> (channels * BITS % 8).to(tl.uint8)) & ((1 << BITS) - 1)
        parts = table + tl.load(owners + number, mask=number < count, other=0)[:, None] * 3
        scales = tl.load(parts + 1).to(tl.pointer_type(tl.float16))
        zeros = tl.load(parts + 2).to(tl.pointer_type(tl.float16))
        shared = place * (D // SPAN) + channels // SPAN if PER_TOKEN else place // GROUP * D + channels
        scale = tl.load(scales + shared, mask=inside, other=0.0).to(tl.float32)
        wide = code.to(tl.float32) * scale + tl.load(zeros + shared, mask=inside, other=0.0).to(tl.float32)
    spot = out + number[:, None].to(tl.int64) * D + channels
    tl.store(spot, wide.to(out.dtype.element_ty), mask=inside)


def addresses(packed: Sequence[Packed]) -> Tensor:
    """Where codes, scales and zero points of each are (R, 3), on their device; keeps nothing of them alive."""
    parts = [(each.codes.data_ptr(), each.scales.data_ptr(), each.zeros.data_ptr()) for each in packed]
    return torch.tensor(parts, device=packed[0].codes.device)


def gather(table: Tensor, like: Packed, owners: Tensor, places: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows (N, D) in a dtype: row n is row `places[n]` of number `owners[n]` of those that `addresses` gave.

    All are in the same bits as `like`; 16 bits must be of that dtype. Rows stay rotated, if they are.
    """
    dim = like.codes.shape[1] * 8 // like.bits if like.bits < 16 else like.codes.shape[1]
    out = torch.empty(len(owners), dim, dtype=dtype, device=owners.device)
    if len(owners):
        _gather[triton.cdiv(len(owners), _ROWS),](
            table, owners, places, out, len(owners), BITS=like.bits, PER_TOKEN=like.per == "token", D=dim,
            WIDTH=triton.next_power_of_2(dim), SPAN=channel_group(dim), GROUP=GROUP, ROWS=_ROWS, num_warps=4,
        )  # fmt: skip
    return out
