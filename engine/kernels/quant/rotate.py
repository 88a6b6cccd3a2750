"""Rotating rows, and merging attention over several runs of tokens, in one pass each; see engine.attention.rotation.

Chunks of thousands of queries are meant: every pass that is left out is tens of megabytes a layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.lse import AttentionState, merge
from engine.kernels.quant.hadamard import chunk_of, rotate_loaded, signs_of

MOST_PARTS = 8
"""That one launch merges."""
_ROWS = 64
"""Of a program, by eight warps: the rotation is read once for all of them, and they still fit in registers."""


@triton.jit
def _rotate(
    rows, out, signs, count, length, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    row, channels = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    rotated = rotate_loaded(rows + row[:, None] * D, row < count, signs, length, D, WIDTH, CHUNK, PRECISION)
    inside = (row < count)[:, None] & (channels < D)[None, :]
    tl.store(out + row[:, None] * D + channels[None, :], rotated.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _merge(
    out, signs, length, queries, heads,
    part1, lse1, head1, token1, part2, lse2, head2, token2, part3, lse3, head3, token3, part4, lse4, head4, token4,
    part5, lse5, head5, token5, part6, lse6, head6, token6, part7, lse7, head7, token7, part8, lse8, head8, token8,
    COUNT: tl.constexpr, DISTANT: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """ROWS rows (query head, token) of the output (Q, H, D), of COUNT parts; the first DISTANT are rotated back."""
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = at < heads * queries
    head, token = (at // queries).to(tl.int64), (at % queries).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = row_mask[:, None] & (channels < D)[None, :]
    acc = tl.zeros((ROWS, WIDTH), tl.float32)
    l_i = tl.zeros((ROWS,), tl.float32)
    m_i = tl.full((ROWS,), float("-inf"), tl.float32)
    parts = (part1, part2, part3, part4, part5, part6, part7, part8)
    lses = (lse1, lse2, lse3, lse4, lse5, lse6, lse7, lse8)
    head_strides = (head1, head2, head3, head4, head5, head6, head7, head8)
    token_strides = (token1, token2, token3, token4, token5, token6, token7, token8)
    for part in tl.static_range(COUNT):
        places = head[:, None] * head_strides[part] + token[:, None] * token_strides[part] + channels[None, :]
        numbers = tl.load(parts[part] + places, mask=inside, other=0.0).to(tl.float32)
        lse = tl.load(lses[part] + at, mask=row_mask, other=0.0)
        m_new = tl.maximum(m_i, lse)
        alpha, share = tl.exp(m_i - m_new), tl.exp(lse - m_new)
        acc = acc * alpha[:, None] + numbers * share[:, None]
        l_i = l_i * alpha + share
        m_i = m_new
        if part + 1 == DISTANT:
            # Rounded as the numbers were that came in: products of float32 have no tensor cores.
            x = (acc / l_i[:, None]).to(out.dtype.element_ty)
            both = (channels < D)[:, None] & (channels < D)[None, :]
            matrix = tl.load(signs + channels[:, None] * D + channels[None, :], mask=both, other=0.0)
            acc = tl.dot(x, matrix, input_precision=PRECISION) * length * l_i[:, None]
    place = (token * heads + head)[:, None] * D + channels[None, :]
    tl.store(out + place, (acc / l_i[:, None]).to(out.dtype.element_ty), mask=inside)


class TritonRotation:
    """An engine.attention.rotation.Rotation by these kernels."""

    def rotate(self, rows: Tensor, rotation: Tensor) -> Tensor:
        """Rows (..., D) times the matrix, in their dtype."""
        dim = rows.shape[-1]
        rows = rows.contiguous()
        out, count = torch.empty_like(rows), rows.numel() // dim
        signs, length = signs_of(rotation, rows.dtype)
        _rotate[triton.cdiv(count, _ROWS),](
            rows, out, signs, count, length,
            D=dim, WIDTH=triton.next_power_of_2(dim), ROWS=_ROWS, CHUNK=chunk_of(_ROWS, rows),
            PRECISION=_precision(rows), num_warps=8,
        )  # fmt: skip
        return out

    def merge_rotated(
        self, proximal: Sequence[AttentionState], distant: Sequence[AttentionState], rotation: Tensor | None
    ) -> Tensor:
        """The output (H,Q,D) over all of them, tokens outermost in memory; the distant ones are rotated back first."""
        if distant and rotation is not None and chunk_of(_ROWS, distant[0][0]) < rotation.shape[0]:
            # The card's shared memory does not hold the matrix that one launch for all would need.
            out, lse = merge(list(distant))
            distant, proximal, rotation = (), [(self.rotate(out, rotation), lse), *proximal], None
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
        signs, length = (first, 1.0) if rotation is None else signs_of(rotation, first.dtype)
        _merge[triton.cdiv(heads * queries, _ROWS),](
            out, signs, length, queries, heads, *given,
            COUNT=len(parts), DISTANT=len(distant) if rotation is not None else 0, D=dim,
            WIDTH=triton.next_power_of_2(dim), ROWS=_ROWS, PRECISION=_precision(first), num_warps=8,
        )  # fmt: skip
        return out.transpose(0, 1)


def _precision(rows: Tensor) -> str:
    return "ieee" if rows.dtype == torch.float32 else "tf32"
