"""Rotating rows, and merging attention over several runs of tokens, in one pass each; see engine.attention.rotation.

Chunks of thousands of queries are meant: every pass that is left out is tens of megabytes a layer.
"""

# Triton's language has no types that a checker could follow.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.lse import AttentionState, merge

MOST_PARTS = 8
"""That one launch merges."""
_ROWS = 64
"""Of a program, by eight warps: the rotation is read once for all of them, and they still fit in registers."""


@triton.jit
def _product(x, signs, length, channels, D: tl.constexpr, PRECISION: tl.constexpr):
    """Rows (ROWS, WIDTH) times the rotation: its entries are 0 and +-1, exact in every dtype, times a length."""
    both = (channels < D)[:, None] & (channels < D)[None, :]
    matrix = tl.load(signs + channels[:, None] * D + channels[None, :], mask=both, other=0.0)
    return tl.dot(x, matrix, input_precision=PRECISION) * length


@triton.jit
def _rotate(
    rows, out, signs, count, length, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    row, channels = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (row < count)[:, None] & (channels < D)[None, :]
    places = row[:, None] * D + channels[None, :]
    x = tl.load(rows + places, mask=inside, other=0.0)
    rotate = _product(x, signs, length, channels, D, PRECISION)
    tl.store(out + places, rotate.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _merge(
    out, signs, length, queries, heads,
    part1, lse1, head1, token1, part2, lse2, head2, token2, part3, lse3, head3, token3, part4, lse4, head4, token4,
    part5, lse5, head5, token5, part6, lse6, head6, token6, part7, lse7, head7, token7, part8, lse8, head8, token8,
    COUNT: tl.constexpr, FAR: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """ROWS rows (query head, token) of the output (Q, H, D), of COUNT parts; the first FAR are turned back."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    present = at < heads * queries
    head, token = (at // queries).to(tl.int64), (at % queries).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = present[:, None] & (channels < D)[None, :]
    sums = tl.zeros((ROWS, WIDTH), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    parts = (part1, part2, part3, part4, part5, part6, part7, part8)
    lses = (lse1, lse2, lse3, lse4, lse5, lse6, lse7, lse8)
    head_strides = (head1, head2, head3, head4, head5, head6, head7, head8)
    token_strides = (token1, token2, token3, token4, token5, token6, token7, token8)
    for part in tl.static_range(COUNT):
        places = head[:, None] * head_strides[part] + token[:, None] * token_strides[part] + channels[None, :]
        numbers = tl.load(parts[part] + places, mask=inside, other=0.0).to(tl.float32)
        seen = tl.load(lses[part] + at, mask=present, other=0.0)
        higher = tl.maximum(top, seen)
        shrink, share = tl.exp(top - higher), tl.exp(seen - higher)
        sums = sums * shrink[:, None] + numbers * share[:, None]
        weight = weight * shrink + share
        top = higher
        if part + 1 == FAR:
            # Rounded as the numbers were that came in: products of float32 have no tensor cores.
            x = (sums / weight[:, None]).to(out.dtype.element_ty)
            sums = _product(x, signs, length, channels, D, PRECISION) * weight[:, None]
    place = (token * heads + head)[:, None] * D + channels[None, :]
    tl.store(out + place, (sums / weight[:, None]).to(out.dtype.element_ty), mask=inside)


class TritonRotation:
    """An engine.attention.rotation.Rotation by these kernels."""

    def rotate(self, rows: Tensor, rotation: Tensor) -> Tensor:
        """Rows (..., D) times the matrix, in their dtype."""
        dim = rows.shape[-1]
        rows = rows.contiguous()
        out, count = torch.empty_like(rows), rows.numel() // dim
        _rotate[triton.cdiv(count, _ROWS),](
            rows, out, _signs(rotation, rows), count, _length(dim),
            D=dim, WIDTH=triton.next_power_of_2(dim), ROWS=_ROWS, PRECISION=_precision(rows), num_warps=8,
        )  # fmt: skip
        return out

    def merge_rotated(
        self, proximal: Sequence[AttentionState], distant: Sequence[AttentionState], rotation: Tensor | None
    ) -> Tensor:
        """The output (H,Q,D) over all of them, tokens outermost in memory; the distant ones are turned back first."""
        while len(proximal) + len(distant) > MOST_PARTS:
            # So many runs of a power of two are rare.
            distant = [merge(list(distant[:2])), *distant[2:]]
        parts = [*distant, *proximal]
        first = parts[0][0]
        heads, queries, dim = first.shape
        out = torch.empty(queries, heads, dim, dtype=first.dtype, device=first.device)
        given: list[Any] = []
        for each, lse in parts:
            rows = each if each.stride(2) == 1 else each.contiguous()
            given += [rows, lse.contiguous(), rows.stride(0), rows.stride(1)]
        # What is not there is not looked at.
        given += given[:4] * (MOST_PARTS - len(parts))
        signs = first if rotation is None else _signs(rotation, first)
        _merge[triton.cdiv(heads * queries, _ROWS),](
            out, signs, _length(dim), queries, heads, *given,
            COUNT=len(parts), FAR=len(distant) if rotation is not None else 0, D=dim, WIDTH=triton.next_power_of_2(dim),
            ROWS=_ROWS, PRECISION=_precision(first), num_warps=8,
        )  # fmt: skip
        return out.transpose(0, 1)


def _signs(rotation: Tensor, like: Tensor) -> Tensor:
    """Whole numbers are exact in every dtype."""
    return rotation.sign().to(like.dtype)


def _length(dim: int) -> float:
    return float((dim & -dim) ** -0.5)


def _precision(rows: Tensor) -> str:
    return "ieee" if rows.dtype == torch.float32 else "tf32"
