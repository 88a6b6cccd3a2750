"""Attention probabilities of one query head on the tokens of pods, given the log-sum-exp over everything."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.quant import GROUP
from engine.kernels.attention.split_plan import NOTHING, SplitPlan
from engine.kernels.attention.tile_ops import (
    BEFORE,
    DTYPES,
    FIELDS,
    FIRST,
    HEAD,
    IS_SUFFIX,
    KEY_SCALES,
    KEY_ZEROS,
    KEYS,
    KIND,
    LOG2_E,
    QUERY,
    STOP,
    exact_scores,
    group_scales,
    load_queries,
    packed_scores,
    shrunk,
)

_LOG2_E = tl.constexpr(LOG2_E)


@triton.jit
def _add_probs(
    queries, sums, probs, tokens, keys, scales, zeros, first, stop, rows, row_mask, scale, share, stride,
    BITS: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, D: tl.constexpr, GROUP: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add `share` of the probabilities of `rows` on slots first..stop, whose `tokens` differ; scores are in base 2."""
    q = load_queries(queries, rows, row_mask, D, BITS, DTYPE if BITS == 16 else WIDE)
    whole = tl.load(sums + rows, mask=row_mask, other=0.0) * _LOG2_E
    for start in tl.range(first, stop, BLOCK):
        slots = start + tl.arange(0, BLOCK)
        col_mask = slots < stop
        if BITS == 16:
            qk = exact_scores(q, keys, tl.minimum(slots, stop - 1), D, PRECISION)
        else:
            scale_of = group_scales(scales, start, BITS, D, GROUP)
            zero_of = group_scales(zeros, start, BITS, D, GROUP)
            safe_slots = tl.minimum(slots, stop - 1)
            qk = packed_scores(q, keys, scale_of, zero_of, safe_slots, BITS, D, WIDE, False, PRECISION)
        own = tl.exp2(qk * (scale / shrunk(BITS)) - whole[None, :]) * share
        inside = row_mask[None, :] & col_mask[:, None]
        token = tl.load(tokens + slots, mask=col_mask, other=0)
        place = probs + rows[None, :].to(tl.int64) * stride + token[:, None]
        # Nobody else of this launch writes there.
        tl.store(place, tl.load(place, mask=inside, other=0.0) + own, mask=inside)


# One kernel for every head and number of tokens, instead of some for those that are 1 or a multiple of 16.
@triton.jit(do_not_specialize=["count", "kind", "head"])
def _attention_probs(
    splits, queries, sums, probs, tokens, scale, share, count, kind, head, stride, KEY_BITS: tl.constexpr,
    D: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, GROUP: tl.constexpr, SHARE: tl.constexpr,
    EXACT_TOO: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One split, for ROWS of the `count` new tokens of one query head."""
    split = splits + tl.program_id(0) * FIELDS
    kind_here = tl.load(split + KIND)
    first, stop = tl.load(split + FIRST).to(tl.int32), tl.load(split + STOP).to(tl.int32)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row_mask = rows < count
    queries += tl.load(split + QUERY) + head * count * D
    tokens += tl.load(split + BEFORE)
    if tl.load(split + HEAD) == head // SHARE and tl.load(split + IS_SUFFIX) == 0:
        if EXACT_TOO:  # noqa: SIM102
            if kind_here == 0:
                keys = tl.multiple_of(tl.load(split + KEYS).to(tl.pointer_type(DTYPE)), 16)
                _add_probs(
                    queries, sums, probs, tokens, keys, keys, keys, first, stop, rows, row_mask, scale, share, stride,
                    16, DTYPE, WIDE, D, GROUP, BLOCK, PRECISION,
                )  # fmt: skip
        if kind_here == kind:
            key_type: tl.constexpr = tl.pointer_type(DTYPE if KEY_BITS == 16 else tl.int16)
            half: tl.constexpr = tl.pointer_type(tl.float16)
            _add_probs(
                queries, sums, probs, tokens, tl.multiple_of(tl.load(split + KEYS).to(key_type), 16),
                tl.multiple_of(tl.load(split + KEY_SCALES).to(half), 16),
                tl.multiple_of(tl.load(split + KEY_ZEROS).to(half), 16),
                first, stop, rows, row_mask, scale, share, stride, KEY_BITS, DTYPE, WIDE, D, GROUP, BLOCK, PRECISION,
            )  # fmt: skip


def add_probs(
    work: SplitPlan, layer: int, head: int, queries: Tensor, count: int, lse: Tensor, scale: float, tokens: Tensor,
    share: float, probs: Tensor,
) -> None:  # fmt: skip
    """Add `share` of a query head's attention probabilities on every slot of the pods to `probs` (Q, T), float32.

    `queries` as in split_kv.attend; `lse` (H, Q) is what that gave for the layer. `tokens` (S,), int32: the column of
    each of the KV head's slots, no two alike, in the order of the pods, exact before distant slots of each.
    """
    dim, dtype = work.suffix[0].shape[3], work.suffix[0].dtype
    block = max(16, triton.next_power_of_2(min(count, 64)))
    for number, (key_bits, _) in enumerate(work.formats or ((16, 16),), 1):
        _attention_probs[work.grid, triton.cdiv(count, block)](
            work.pieces[layer], queries, lse[head], probs, tokens, scale * LOG2_E, share, count,
            number if work.formats else NOTHING, head, probs.stride(0), KEY_BITS=key_bits, D=dim, DTYPE=DTYPES[dtype],
            WIDE=tl.float32 if dtype == torch.float32 else tl.float16,
            GROUP=GROUP, SHARE=work.share, EXACT_TOO=number == 1, ROWS=block, BLOCK=64,
            PRECISION="ieee" if dtype == torch.float32 else "tf32",
        )  # fmt: skip
