"""The most attention that any of many queries pays to each key: one pass over the logits, of which none is stored.

What KVzip scores slots by (arXiv 2505.23416). Letters: H query heads, G key/value heads, Q queries, T tokens, D head
size; R = H / G * Q, the rows of a group.
"""

# Triton's language has no types that a checker could follow.
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"

import math

import triton
import triton.language as tl
from torch import Tensor

_KEYS, _ROWS = 128, 64
"""Keys of a program, and query rows that it meets at once, of heads of up to _WIDTH channels; fewer of wider ones."""
_WIDTH = 128


@triton.jit(do_not_specialize=["rows", "tokens"])
def _column_max(
    query, lse, keys, best, rows, tokens, key_head, key_row, scale,
    DIM: tl.constexpr, WIDTH: tl.constexpr, KEYS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """KEYS keys of a head against all rows (R, DIM) of its group; `lse` and `scale` in powers of two."""
    group = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    channel = tl.arange(0, WIDTH)
    key = keys + group * key_head + token[:, None].to(tl.int64) * key_row + channel[None, :]
    k = tl.load(key, mask=(token[:, None] < tokens) & (channel[None, :] < DIM), other=0.0)
    m_i = tl.full([KEYS, ROWS], float("-inf"), tl.float32)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        at = group * rows + row
        mask = (row[None, :] < rows) & (channel[:, None] < DIM)
        q = tl.load(query + at[None, :] * DIM + channel[:, None], mask=mask, other=0.0)
        sum_exp = tl.load(lse + at, mask=row < rows, other=float("inf"))
        m_i = tl.maximum(m_i, tl.dot(k, q, input_precision="ieee") * scale - sum_exp[None, :])
    place = best + group * tokens + token
    held = tl.load(place, mask=token < tokens, other=0.0)
    tl.store(place, tl.maximum(held, tl.exp2(tl.max(m_i, 1))), mask=token < tokens)


def column_max(query: Tensor, keys: Tensor, lse: Tensor, scale: float, best: Tensor) -> None:
    """Raise `best` (G, T) in float32 to the largest share that any query (H, Q, D) gives each of the keys (G, T, D).

    `lse` (H, Q): log-sum-exp of each query over everything that it attends.
    """
    groups, tokens, dim = keys.shape
    rows = query.shape[0] // groups * query.shape[1]
    width = triton.next_power_of_2(dim)
    narrower = max(1, width // _WIDTH)
    assert best.is_contiguous() and keys.stride(2) == 1
    _column_max[triton.cdiv(tokens, _KEYS // narrower), groups](
        query.contiguous(), lse.float().contiguous() * math.log2(math.e), keys, best,
        rows, tokens, keys.stride(0), keys.stride(1), scale * math.log2(math.e),
        DIM=dim, WIDTH=width, KEYS=_KEYS // narrower, ROWS=_ROWS // narrower, num_warps=4,
    )  # fmt: skip
