"""What stands around the products of many rows, each in one pass: norms, gates, rotary positions.

The numbers are those of engine.models.ops.PlainOps up to the order of sums, rounded where transformers rounds them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_NUMBERS = 4096
"""That a program of norms takes at least."""
_TOKENS = 16
_HEADS = 8
"""Tokens and heads that a program of rotary positions takes: angles are read once for all its heads."""


@triton.jit
def _norm(x, gain, out, count, stride, epsilon, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (row < count)[:, None] & (column < K)[None, :]
    read = tl.load(x + row[:, None] * stride + column[None, :], mask=inside, other=0.0)
    wide = read.to(tl.float32)
    factor = tl.rsqrt(tl.sum(wide * wide, 1) / K + epsilon)
    # Cast, then times the weight.
    normed = (wide * factor[:, None]).to(read.dtype).to(tl.float32)
    weight = tl.load(gain + column, mask=column < K, other=0.0).to(tl.float32)
    tl.store(out + row[:, None] * K + column[None, :], (normed * weight[None, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gate(both, out, N: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < N
    gate = tl.load(both + row * (2 * N) + column, mask=inside, other=0.0)
    up = tl.load(both + row * (2 * N) + N + column, mask=inside, other=0.0).to(tl.float32)
    wide = gate.to(tl.float32)
    opened = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    tl.store(out + row * N + column, (opened * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rope(
    x, cos, sin, out, count, heads, token_stride, head_stride, D: tl.constexpr, WIDTH: tl.constexpr,
    TOKENS: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    token, channels = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, WIDTH)
    inside = (token < count)[:, None] & (channels < D)[None, :]
    token = token[:, None].to(tl.int64)
    other_half = ((channels + D // 2) % D)[None, :]
    channels = channels[None, :]
    c = tl.load(cos + token * D + channels, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(sin + token * D + channels, mask=inside, other=0.0).to(tl.float32)
    first = tl.program_id(1) * HEADS
    for head in range(first, tl.minimum(first + HEADS, heads)):
        row = x + token * token_stride + head * head_stride
        own = tl.load(row + channels, mask=inside, other=0.0).to(tl.float32)
        partner = tl.load(row + other_half, mask=inside, other=0.0).to(tl.float32)
        place = (head * count + token) * D + channels
        tl.store(out + place, (own * c + partner * s).to(out.dtype.element_ty), mask=inside)


def norm(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """RMSNorm (B, K) of rows x (B, K) whose numbers lie side by side."""
    count, columns = x.shape
    assert x.stride(1) == 1 and gain.stride(0) == 1 and gain.shape == (columns,)
    out = torch.empty(count, columns, dtype=torch.promote_types(x.dtype, gain.dtype), device=x.device)
    width = triton.next_power_of_2(columns)
    rows = max(1, _NUMBERS // width)
    _norm[triton.cdiv(count, rows),](
        x, gain, out, count, x.stride(0), epsilon, K=columns, WIDTH=width, ROWS=rows,
        num_warps=min(16, max(4, width // 512)),
    )  # fmt: skip
    return out


def gate(both: Tensor) -> Tensor:
    """silu(first half) * second half (B, N) of rows (B, 2 N)."""
    assert both.is_contiguous()
    out = torch.empty(len(both), both.shape[1] // 2, dtype=both.dtype, device=both.device)
    block = min(2048, triton.next_power_of_2(out.shape[1]))
    _gate[len(out), triton.cdiv(out.shape[1], block)](both, out, N=out.shape[1], BLOCK=block, num_warps=4)
    return out


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions for heads (B, H, D), heads outermost in memory; cos and sin (B, 1, D), see PlainOps.rope."""
    count, heads, dim = x.shape
    assert x.stride(2) == 1 and cos.shape == sin.shape == (count, 1, dim)
    out = torch.empty(heads, count, dim, dtype=x.dtype, device=x.device)
    _rope[triton.cdiv(count, _TOKENS), triton.cdiv(heads, _HEADS)](
        x, cos.contiguous(), sin.contiguous(), out, count, heads, x.stride(0), x.stride(1),
        D=dim, WIDTH=triton.next_power_of_2(dim), TOKENS=_TOKENS, HEADS=_HEADS, num_warps=4,
    )  # fmt: skip
    return out.transpose(0, 1)
