"""Packed keys or values to numbers in one launch for all KV heads of a layer: what quant.dequantize_into does.

Eight and four bits; two, three and sixteen go through PyTorch. Numbers stay rotated, if they are: whoever attends them
rotates its queries, which are fewer.
"""

import triton
import triton.language as tl
from torch import Tensor

from engine.core import quant
from engine.core.quant import GROUP, Packed, channel_group


@triton.jit
def _dequantize(
    codes, scales, zeros, out, count, code_head, scale_head, out_head,
    BITS: tl.constexpr, PER_TOKEN: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """GROUP tokens of one KV head; strides from head to head count numbers."""
    group, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    tokens, channels = group * GROUP + tl.arange(0, GROUP), tl.arange(0, WIDTH)
    columns = tl.arange(0, WIDTH * BITS // 8)
    row = codes + head * code_head + tokens[:, None].to(tl.int64) * (D * BITS // 8)
    code = tl.load(row + columns[None, :], mask=(tokens < count)[:, None] & (columns < D * BITS // 8)[None, :], other=0)
    if BITS == 4:
        # Of two channels in a byte the first has the low bits.
        code = tl.reshape(tl.join(code & 15, code >> 4), (GROUP, WIDTH))
    wide = code.to(tl.float32)
    if PER_TOKEN:
        SPAN: tl.constexpr = WIDTH // GROUPS
        present = (tokens < count)[:, None] & (tl.arange(0, GROUPS) < GROUPS)[None, :]
        places = head * scale_head + tokens[:, None] * GROUPS + tl.arange(0, GROUPS)[None, :]
        scale = tl.load(scales + places, mask=present, other=0.0).to(tl.float32)
        zero = tl.load(zeros + places, mask=present, other=0.0).to(tl.float32)
        wide = tl.reshape(wide, (GROUP, GROUPS, SPAN)) * scale[:, :, None] + zero[:, :, None]
        wide = tl.reshape(wide, (GROUP, WIDTH))
    else:
        places = head * scale_head + group * D + channels
        scale = tl.load(scales + places, mask=channels < D, other=0.0).to(tl.float32)
        zero = tl.load(zeros + places, mask=channels < D, other=0.0).to(tl.float32)
        wide = wide * scale[None, :] + zero[None, :]
    place = out + head * out_head + tokens[:, None].to(tl.int64) * D + channels[None, :]
    tl.store(place, wide.to(out.dtype.element_ty), mask=(tokens < count)[:, None] & (channels < D)[None, :])


def dequantize_into(packed: Packed, out: Tensor) -> None:
    """The rows (G, N, D) of a Packed with a leading G, in the dtype of `out`, whose heads may lie apart."""
    heads, count, dim = out.shape
    if packed.bits not in (4, 8):
        quant.dequantize_into(packed, out)
        return
    assert packed.codes.stride()[1:] == (dim * packed.bits // 8, 1) and out.stride()[1:] == (dim, 1)
    assert packed.scales.stride() == packed.zeros.stride()
    width = triton.next_power_of_2(dim)
    _dequantize[triton.cdiv(count, GROUP), heads](
        packed.codes, packed.scales, packed.zeros, out, count, packed.codes.stride(0), packed.scales.stride(0),
        out.stride(0), BITS=packed.bits, PER_TOKEN=packed.per == "token", D=dim, WIDTH=width,
        GROUPS=dim // channel_group(dim), GROUP=GROUP, num_warps=max(4, width // 16),
    )  # fmt: skip
