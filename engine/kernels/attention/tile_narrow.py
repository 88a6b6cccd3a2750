"""A split of the keys and values for few rows of queries: slots stand along the long side of a tensor core's tile."""

import triton
import triton.language as tl

from engine.kernels.attention.tile_ops import (
    accumulate_exact,
    accumulate_packed,
    exact_scores,
    fold_slots,
    group_scales,
    init_acc,
    load_queries,
    packed_scores,
    shrunk,
    softmax_step,
    store_output,
    token_scales,
)


@triton.jit
def read_narrow_tile(
    queries, outputs, sums, keys, key_scales, key_zeros, values, value_scales, value_zeros, first, stop, rows, row_mask,
    causal_stop, scale, KEY_BITS: tl.constexpr, VALUE_BITS: tl.constexpr, CAUSAL: tl.constexpr, DTYPE: tl.constexpr,
    WIDE: tl.constexpr, D: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax over slots first..stop of one KV head, for `rows` (M,) of its queries.

    They see all of them or, where CAUSAL, slots below `causal_stop` (M,). Logits are in base 2. Writes the split's
    output (M, D) and its log-sum-exp, in base 2.
    """
    q = load_queries(queries, rows, row_mask, D, KEY_BITS, DTYPE if KEY_BITS == 16 else WIDE)
    factor = scale / shrunk(KEY_BITS)
    HEIGHT: tl.constexpr = min(BLOCK, 16 * WARPS)
    acc = init_acc(ROWS, HEIGHT, VALUE_BITS, D, GROUPS)
    l_i = tl.zeros((HEIGHT, ROWS), tl.float32)
    m_i = tl.full((ROWS,), float("-inf"), tl.float32)
    # Slots behind the last one are that one again, at no weight: so no load needs a mask.
    slots = tl.minimum(first + tl.arange(0, BLOCK), stop - 1)
    scales, zeros = token_scales(value_scales, value_zeros, slots, VALUE_BITS, GROUPS)
    for start in tl.range(first, stop, BLOCK, num_stages=STAGES):
        columns = start + tl.arange(0, BLOCK)
        slots = tl.minimum(columns, stop - 1)
        # Scales are too few bytes for Triton to copy them ahead of time: they are loaded a round before they count.
        scales_now, zeros_now = scales, zeros
        ahead = tl.minimum(columns + BLOCK, stop - 1)
        scales, zeros = token_scales(value_scales, value_zeros, ahead, VALUE_BITS, GROUPS)
        if KEY_BITS == 16:
            qk = exact_scores(q, keys, slots, D, PRECISION)
        else:
            key_scale = group_scales(key_scales, start, KEY_BITS, D, GROUP)
            key_zero = group_scales(key_zeros, start, KEY_BITS, D, GROUP)
            qk = packed_scores(q, keys, key_scale, key_zero, slots, KEY_BITS, D, WIDE, ASM, PRECISION)
        p, alpha, m_i = softmax_step(qk, factor, columns, stop, causal_stop, m_i, CAUSAL, 0)
        l_i = l_i * alpha[None, :] + fold_slots(p, HEIGHT)
        if VALUE_BITS == 16:
            acc = accumulate_exact(acc, p, alpha, values, slots, D, DTYPE, PRECISION)
        else:
            acc = accumulate_packed(
                acc, p, alpha, values, scales_now, zeros_now, slots, VALUE_BITS, D, GROUPS, WIDE, ASM, PRECISION
            )
    l_safe = tl.sum(l_i, 0)
    l_safe = tl.where(l_safe > 0, l_safe, 1.0)
    store_output(outputs, rows, row_mask, acc, l_safe, VALUE_BITS, D, GROUPS)
    tl.store(sums + rows, m_i + tl.log2(l_safe), mask=row_mask)
