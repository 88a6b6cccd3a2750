"""What stands between a layer's projections and its attention: norms of heads, rotary positions, and the places.

For a step of few tokens: queries go to where the attention kernel finds them, keys and values into the suffix cache.
Norms and rotary positions are those of transformers (Qwen3's per-head RMSNorm; halves of the head size are the two
coordinates), in float32 up to the result; they are left out where a layer has seen to them.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from engine.core.rope import HeadNorms, Rotary
from engine.kernels.card import card_of
from engine.kernels.pdl import launch_dependents, wait_for_primary
from engine.kernels.quant.hadamard import rotate_row


@dataclass(frozen=True)
class Places:
    """Where to: query (H, Q, D), keys and values (G, slots, D) from slot `start` (1,) on, contiguous in D and Q.

    `rotated`, like `query`, gets the query times quant.hadamard (D, D) where the pods need it.
    """

    query: Tensor
    keys: Tensor
    values: Tensor
    start: Tensor
    rotated: Tensor | None = None


@triton.jit
def _rope_append(
    rows, cos, sin, positions, query_weight, key_weight, epsilon, query, rotated, keys, values, start, count, slots,
    row_stride, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, ROPE: tl.constexpr,
    NORMED: tl.constexpr, ROTATE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One head of one new token: H query heads, then G of keys, then G of values."""
    head, token = tl.program_id(0), tl.program_id(1)
    channels = tl.arange(0, WIDTH)
    inside = channels < D
    # These are older than any product of the step: they are read before the launch before has ended.
    first = tl.load(start)
    position = tl.load(positions + token) if ROPE else 0
    if PDL:
        ready = wait_for_primary()
        launch_dependents()
        token += ready
        position += ready
    row = rows + token * row_stride + head * D
    slot = first + token
    # A full suffix cache is refused before; this keeps a recorded launch from writing behind it.
    fits = channels < tl.where(slot < slots, D, 0)
    x = tl.load(row + channels, mask=inside, other=0.0).to(tl.float32)
    if head >= H + G:
        place = ((head - H - G) * slots + slot) * D + channels
        tl.store(values + place, x.to(values.dtype.element_ty), mask=fits)
    else:
        if ROPE:
            other_half = (channels + D // 2) % D
            partner = tl.load(row + other_half, mask=inside, other=0.0).to(tl.float32)
            angle = position * (D // 2) + channels % (D // 2)
            c = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)
            s = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)
            if NORMED:
                weight = query_weight if head < H else key_weight
                factor = tl.rsqrt(tl.sum(x * x, 0) / D + epsilon)
                x *= factor * tl.load(weight + channels, mask=inside, other=0.0).to(tl.float32)
                partner *= factor * tl.load(weight + other_half, mask=inside, other=0.0).to(tl.float32)
            x = x * c + tl.where(channels < D // 2, -partner, partner) * s
        # The numbers that a layer of transformers would give are those of the model's dtype.
        out = x.to(keys.dtype.element_ty)
        if head >= H:
            tl.store(keys + ((head - H) * slots + slot) * D + channels, out, mask=fits)
        else:
            place = (head * count + token) * D + channels
            tl.store(query + place, out.to(query.dtype.element_ty), mask=inside)
            if ROTATE:
                distant = rotate_row(out.to(tl.float32), D)
                tl.store(rotated + place, distant.to(rotated.dtype.element_ty), mask=inside)


def rope(rows: Tensor, rotary: Rotary | None, norms: HeadNorms | None, places: Places) -> None:
    """Take fused rows (Q, (H + 2 G) * D), queries first, then keys, then values, and put them in their places.

    Without `rotary` they are normed and turned already.
    """
    count, slots, dim = len(rows), places.keys.shape[1], places.keys.shape[2]
    kv_heads = len(places.keys)
    heads = rows.shape[1] // dim - 2 * kv_heads
    cos, sin, positions = (rotary.cos, rotary.sin, rotary.positions) if rotary else (rows, rows, places.start)
    assert rows.stride(1) == 1 and (not rotary or (cos.is_contiguous() and sin.is_contiguous()))
    # Without norms, or a rotation, these are not looked at.
    query_weight, key_weight = (norms.query, norms.keys) if norms else (rows, rows)
    rotated = places.query if places.rotated is None else places.rotated
    pdl = card_of(rows.device).pdl
    _rope_append[heads + 2 * kv_heads, count](
        rows, cos, sin, positions, query_weight, key_weight, norms.epsilon if norms else 0.0,
        places.query, rotated, places.keys, places.values, places.start, count, slots, rows.stride(0),
        H=heads, G=kv_heads, D=dim, WIDTH=triton.next_power_of_2(dim), ROPE=rotary is not None,
        NORMED=norms is not None, ROTATE=places.rotated is not None, PDL=pdl, num_warps=1, launch_pdl=pdl,
    )  # fmt: skip
