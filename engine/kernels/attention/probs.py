"""Attention probabilities of one query head on the tokens of pods, given the log-sum-exp over everything."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.core.quant import GROUP
from engine.kernels.attention.split_plan import NOTHING, SplitPlan
from engine.kernels.attention.tile_ops import asked, exact_scores, group_scales, packed_scores, shrunk


@triton.jit
def _add_probs(
    queries, sums, probs, tokens, keys, scales, zeros, first, stop, rows, present, scale, share, stride,
    BITS: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, D: tl.constexpr, GROUP: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add `share` of the probabilities of `rows` on slots first..stop, whose `tokens` differ; logits are in base 2."""
    q = asked(queries, rows, present, D, BITS, DTYPE if BITS == 16 else WIDE)
    whole = tl.load(sums + rows, mask=present, other=0.0) * 1.4426950408889634
    for start in tl.range(first, stop, BLOCK):
        slots = start + tl.arange(0, BLOCK)
        held = slots < stop
        if BITS == 16:
            logits = exact_scores(q, keys, tl.minimum(slots, stop - 1), D, PRECISION)
        else:
            scale_of = group_scales(scales, start, BITS, D, GROUP)
            zero_of = group_scales(zeros, start, BITS, D, GROUP)
            held_slots = tl.minimum(slots, stop - 1)
            logits = packed_scores(q, keys, scale_of, zero_of, held_slots, BITS, D, WIDE, False, PRECISION)
        own = tl.exp2(logits * (scale / shrunk(BITS)) - whole[None, :]) * share
        inside = present[None, :] & held[:, None]
        token = tl.load(tokens + slots, mask=held, other=0)
        place = probs + rows[None, :].to(tl.int64) * stride + token[:, None]
        # Nobody else of this launch writes there.
        tl.store(place, tl.load(place, mask=inside, other=0.0) + own, mask=inside)


@triton.jit
def _attention_probs(
    pieces, queries, sums, probs, tokens, scale, share, count, kind, head, stride, KEY_BITS: tl.constexpr,
    D: tl.constexpr, DTYPE: tl.constexpr, WIDE: tl.constexpr, GROUP: tl.constexpr, SHARE: tl.constexpr,
    EXACT_TOO: tl.constexpr, FIELDS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One piece of the work list, for ROWS of the `count` new tokens of one query head."""
    piece = pieces + tl.program_id(0) * FIELDS
    its_kind = tl.load(piece)
    first, stop = tl.load(piece + 1).to(tl.int32), tl.load(piece + 2).to(tl.int32)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    present = rows < count
    queries += tl.load(piece + 4) + head * count * D
    tokens += tl.load(piece + 12)
    if tl.load(piece + 3) == head // SHARE and tl.load(piece + 11) == 0:
        if EXACT_TOO:  # noqa: SIM102
            if its_kind == 0:
                keys = tl.multiple_of(tl.load(piece + 5).to(tl.pointer_type(DTYPE)), 16)
                _add_probs(
                    queries, sums, probs, tokens, keys, keys, keys, first, stop, rows, present, scale, share, stride,
                    16, DTYPE, WIDE, D, GROUP, BLOCK, PRECISION,
                )  # fmt: skip
        if its_kind == kind:
            key_type: tl.constexpr = tl.pointer_type(DTYPE if KEY_BITS == 16 else tl.int16)
            half: tl.constexpr = tl.pointer_type(tl.float16)
            _add_probs(
                queries, sums, probs, tokens, tl.multiple_of(tl.load(piece + 5).to(key_type), 16),
                tl.multiple_of(tl.load(piece + 7).to(half), 16), tl.multiple_of(tl.load(piece + 8).to(half), 16),
                first, stop, rows, present, scale, share, stride, KEY_BITS, DTYPE, WIDE, D, GROUP, BLOCK, PRECISION,
            )  # fmt: skip


_DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


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
            work.pieces[layer], queries, lse[head], probs, tokens, scale * 1.4426950408889634, share, count,
            number if work.formats else NOTHING, head, probs.stride(0), KEY_BITS=key_bits, D=dim, DTYPE=_DTYPES[dtype],
            WIDE=tl.float32 if dtype == torch.float32 else tl.float16,
            GROUP=GROUP, SHARE=work.share, EXACT_TOO=number == 1, FIELDS=work.pieces.shape[2], ROWS=block, BLOCK=64,
            PRECISION="ieee" if dtype == torch.float32 else "tf32",
        )  # fmt: skip
