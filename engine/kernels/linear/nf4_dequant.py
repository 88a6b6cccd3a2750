"""Weights as one dense matrix, for products of many rows: NF4 is unpacked once for all of them, scales and all.

The numbers are those of bitsandbytes' own unpacking, which takes a launch for the numbers and several for their scales.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.card import card_of
from engine.kernels.linear.nf4_decode import _WORDS, block_scale, decoded, table_entries
from engine.kernels.linear.nf4_gemv import arguments
from engine.kernels.linear.weights import Nf4Weight

_ROWS, _COLUMNS = 8, 1024
"""Numbers that a program unpacks, as a tile of words."""


@triton.jit
def _unpack(
    words, scales, table, nest_table, nest_scales, offset, out, count,
    NESTED: tl.constexpr, ASM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """ROWS * COLUMNS consecutive weights of `count` words."""
    WORDS: tl.constexpr = COLUMNS // 8
    shift = 0.0
    if NESTED:
        shift = tl.load(offset)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    at = row * WORDS + tl.arange(0, WORDS)[None, :]
    # Words past the end are the last one again, and are not written.
    near = tl.minimum(at, count - 1)
    scale = block_scale(scales, nest_table, nest_scales, shift, near // _WORDS, NESTED, ASM)
    t0, t1, t2, t3, t4, t5, t6, t7 = decoded(tl.load(words + near), table_entries(table, ROWS, WORDS, ASM), ASM)
    # The place in a word becomes three dimensions of two, the one that counts by four first.
    even = tl.join(tl.join(t0 * scale, t4 * scale), tl.join(t2 * scale, t6 * scale))
    odd = tl.join(tl.join(t1 * scale, t5 * scale), tl.join(t3 * scale, t7 * scale))
    matrix = tl.reshape(tl.join(even, odd), (ROWS, COLUMNS)).to(out.dtype.element_ty)
    place = row * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    tl.store(out + place, matrix, mask=place < count * 8)


def matrix_of(weights: Sequence[Nf4Weight], like: Tensor) -> Tensor:
    """Weights of as many columns, one below the other (sum of N, K), in the dtype of x."""
    out = torch.empty(sum(each.rows for each in weights), weights[0].columns, dtype=like.dtype, device=like.device)
    start = 0
    for each in weights:
        count, part = each.words.numel(), out[start : start + each.rows]
        start += each.rows
        words, scales, *nest = arguments([each])[:5]
        _unpack[triton.cdiv(count * 8, _ROWS * _COLUMNS),](
            words, scales, each.table, *nest, part, count,
            NESTED=each.nest_table is not None, ASM=card_of(like.device).ptx, ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=8,
        )  # fmt: skip
    return out


def bias_of(weights: Sequence[Nf4Weight], like: Tensor) -> Tensor | None:
    """The biases (sum of N,) in the dtype of x, zero where a weight has none; None where none has."""
    if all(each.bias is None for each in weights):
        return None
    parts = [like.new_zeros(each.rows) if each.bias is None else each.bias.to(like.dtype) for each in weights]
    return torch.cat(parts)
