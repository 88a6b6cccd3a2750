"""The first step of a layer: new keys and values into the suffix cache, new queries to where the kernels find them."""

import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.attention.split_plan import SplitPlan
from engine.kernels.card import card_of
from engine.kernels.pdl import launch_dependents
from engine.kernels.quant.hadamard import rotate_row


@triton.jit
def _append(
    query, keys, values, queries, rotated, suffix_keys, suffix_values, suffix_length, count, capacity,
    query_head, query_token, key_head, key_token, value_head, value_token,
    H: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, ROTATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One head of one new token: a query head, or a KV head's key and value; strides count numbers."""
    if PDL:
        launch_dependents()
    head, token = tl.program_id(0), tl.program_id(1)
    channels = tl.arange(0, WIDTH)
    inside = channels < D
    if head < H:
        row = query + head * query_head + token * query_token
        place = (head * count + token) * D + channels
        asked = tl.load(row + channels, mask=inside, other=0.0).to(tl.float32)
        tl.store(queries + place, asked, mask=inside)
        if ROTATE:
            tl.store(rotated + place, rotate_row(asked, D), mask=inside)
    else:
        head -= H
        slot = tl.load(suffix_length) + token
        place = (head * capacity + slot) * D + channels
        # A full suffix cache is refused before; this keeps a recorded launch from writing behind it.
        fits = channels < tl.where(slot < capacity, D, 0)
        row = keys + head * key_head + token * key_token
        tl.store(suffix_keys + place, tl.load(row + channels, mask=inside), mask=fits)
        row = values + head * value_head + token * value_token
        tl.store(suffix_values + place, tl.load(row + channels, mask=inside), mask=fits)


def append(
    work: SplitPlan, layer: int, queries: Tensor, query: Tensor, keys: Tensor, values: Tensor, suffix_length: Tensor,
    rotate: bool,
) -> None:  # fmt: skip
    """Put query (H, Q, D), keys and values (G, Q, D) of a layer in their places.

    Keys and values go behind the `suffix_length` (1,) tokens of the suffix cache; the query goes into `queries`
    (2, 1 or L, H * most, D), float32, as it is and, to `rotate`, times quant.hadamard (D, D).
    """
    heads, count, dim = query.shape
    suffix_keys, suffix_values = (each[layer] for each in work.suffix)
    plain, rotated = queries[:, layer if queries.shape[1] > 1 else 0]
    assert query.stride(2) == keys.stride(2) == values.stride(2) == 1
    _append[heads + len(keys), count](
        query, keys, values, plain, rotated, suffix_keys, suffix_values, suffix_length, count, suffix_keys.shape[1],
        query.stride(0), query.stride(1), keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
        H=heads, D=dim, WIDTH=triton.next_power_of_2(dim), ROTATE=rotate, PDL=card_of(query.device).pdl,
        num_warps=1,
    )  # fmt: skip
