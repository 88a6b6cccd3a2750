"""One piece of the work list inside the attention kernel: softmax over its slots, for all queries of its KV head."""

import triton
import triton.language as tl

from engine.kernels.attention.tile_ops import (
    asked,
    exact_scores,
    exact_sums,
    folded,
    group_scales,
    packed_scores,
    packed_sums,
    shrunk,
    start_sums,
    store_sums,
    token_scales,
)


@triton.jit
def read_narrow_tile(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, present,
    seen, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax over slots first..stop of one KV head, for `rows` (M,) of its queries.

    They see all of them or, where CAUSAL, slots below `seen` (M,). Logits are in base 2. Writes the output (M, D) and
    the log-sum-exp, in base 2, of the piece.
    """
    q = asked(queries, rows, present, D, KEY_BITS, DTYPE if KEY_BITS == 16 else WIDE)
    factor = scale / shrunk(KEY_BITS)
    HEIGHT: tl.constexpr = min(BLOCK, 16 * WARPS)
    grown = start_sums(ROWS, HEIGHT, VALUE_BITS, D, GROUPS)
    total = tl.zeros((HEIGHT, ROWS), tl.float32)
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    # Slots behind the last one are that one again, at no weight: so nothing is asked of each load.
    slots = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    scales, zeros = token_scales(value_scales, value_zeros, slots, VALUE_BITS, GROUPS)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        numbers = start + tl.arange(0, BLOCK)
        slots = tl.minimum(numbers, stop - 1)
        # Scales are too few bytes for Triton to copy them ahead of time: they are asked for a round before they count.
        scales_now, zeros_now = scales, zeros
        ahead = tl.minimum(numbers + BLOCK, stop - 1)
        scales, zeros = token_scales(value_scales, value_zeros, ahead, VALUE_BITS, GROUPS)
        if KEY_BITS == 16:
            logits = exact_scores(q, keys, slots, D, PRECISION)
        else:
            group_scale = group_scales(key_scales, start, KEY_BITS, D, GROUP)
            group_zero = group_scales(key_zeros, start, KEY_BITS, D, GROUP)
            logits = packed_scores(q, keys, group_scale, group_zero, slots, KEY_BITS, D, WIDE, ASM, PRECISION)
        unheld = tl.where(numbers < stop, 0.0, float("-inf"))
        logits = logits * factor + unheld[:, None]
        if CAUSAL:
            logits = tl.where(numbers[:, None] < seen[None, :], logits, float("-inf"))
        higher = tl.maximum(most, tl.max(logits, 0))
        base = higher
        if CAUSAL:
            # A row that has seen nothing yet: any finite number keeps the differences from being NaN.
            base = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(logits - base[None, :])
        shrink = tl.exp2(most - base)
        total = total * shrink[None, :] + folded(p, HEIGHT)
        most = higher
        if VALUE_BITS == 16:
            grown = exact_sums(grown, p, shrink, values, slots, D, DTYPE, PRECISION)
        else:
            grown = packed_sums(
                grown, p, shrink, values, scales_now, zeros_now, slots, VALUE_BITS, D, GROUPS, WIDE, ASM, PRECISION
            )
    weight = tl.sum(total, 0)
    weight = tl.where(weight > 0, weight, 1.0)
    store_sums(outputs, rows, present, grown, weight, VALUE_BITS, D, GROUPS)
    tl.store(sums + rows, most + tl.log2(weight), mask=present)
