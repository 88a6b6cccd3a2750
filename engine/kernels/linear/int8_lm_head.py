"""The output head in eight bits, and the likeliest tokens once more from its exact rows: half of the bytes.

All logits come from codes with a scale for every 32 of a row. At least the `again` largest are then computed from the
exact weights, so the likeliest token is the exact head's as long as it is among them. One row of x.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from engine.kernels.card import card_of
from engine.kernels.linear.nf4_decode import eight
from engine.kernels.linear.weights import MOST_NUMBERS

GROUP = 32
"""Weights of a row that share a scale."""
AGAIN = 64
"""Of so many tokens at least the logits are exact."""
SPAN = 64
"""Neighbouring tokens of which only the largest logit is looked at to find where the largest `again` begin."""
_SLICE = 1024
"""Rows that are quantized at once."""


@dataclass(frozen=True)
class Int8Head:
    """A head (V, K), and beside it `codes` (V, K), bytes around 128, with `scales` (V, K / 32) in float16."""

    exact: Tensor
    codes: Tensor
    scales: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes that this takes besides the exact head, and about those that a product reads."""
        return self.codes.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class Tile:
    """What a program of the first launch takes at a time: rows of the head, and words (of eight codes) along K."""

    rows: int
    words: int


def can_quantize_head(head: nn.Module) -> bool:
    """Whether a module may be such a head."""
    weight, bias = head.get_parameter("weight"), dict(head.named_parameters()).get("bias")
    plain = isinstance(head, nn.Linear) and bias is None and weight.is_floating_point()
    return plain and weight.shape[1] % GROUP == 0 and weight.numel() <= MOST_NUMBERS


def quantize_head(exact: Tensor) -> Int8Head:
    """The codes nearest to the matrix (V, K) of a head without a bias, some rows at a time."""
    rows, columns = exact.shape
    codes = torch.empty(rows, columns, dtype=torch.uint8, device=exact.device)
    scales = torch.empty(rows, columns // GROUP, dtype=torch.float16, device=exact.device)
    for first in range(0, rows, _SLICE):
        some = slice(first, first + _SLICE)
        wide = exact[some].float().view(-1, columns // GROUP, GROUP)
        # Rounded to what is stored before the codes are chosen, and to eleven bits: of the largest weight of each group
        # hardly anything is lost, on which most depends. Where all are zero, any scale will do.
        scales[some] = (wide.abs().amax(2) / 127).clamp_min(2.0**-24)
        steps = wide / scales[some].float()[..., None]
        codes[some] = steps.round_().clamp_(-127, 127).add_(128).flatten(1)
    return Int8Head(exact, codes, scales)


_CODES = tl.constexpr(
    "{ .reg .b32 l, h, t; mov.b64 {l, h}, $8;"
    # A byte below the exponent of 2 ** 23 is that much and itself.
    + " ".join(
        f"prmt.b32 t, {'lh'[i // 4]}, 0x4B000000, {0x7440 + i % 4:#x}; add.f32 ${i}, t, 0fCB000080;" for i in range(8)
    )
    + " }"
)
_OUTPUTS = tl.constexpr("=&f," * 8 + "l")


@triton.jit
def _codes(words, ASM: tl.constexpr):
    """The eight codes of each word (int64), as float32 around zero."""
    if not ASM:
        return (
            (words & 255).to(tl.float32) - 128,
            ((words >> 8) & 255).to(tl.float32) - 128,
            ((words >> 16) & 255).to(tl.float32) - 128,
            ((words >> 24) & 255).to(tl.float32) - 128,
            ((words >> 32) & 255).to(tl.float32) - 128,
            ((words >> 40) & 255).to(tl.float32) - 128,
            ((words >> 48) & 255).to(tl.float32) - 128,
            ((words >> 56) & 255).to(tl.float32) - 128,
        )
    else:
        return tl.inline_asm_elementwise(_CODES, _OUTPUTS, [words], dtype=(tl.float32,) * 8, is_pure=True, pack=1)


@triton.jit
def _scale(pointer, ASM: tl.constexpr):
    """One float16 as float32; what threads ask for twice is read once."""
    if not ASM:
        return tl.load(pointer).to(tl.float32)
    else:
        return tl.inline_asm_elementwise(
            "{ .reg .b16 s; ld.global.nc.b16 s, [$1]; cvt.f32.f16 $0, s; }",
            "=f,l",
            [pointer.to(tl.int64, bitcast=True)],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )


@triton.jit
def _products(
    x, gain, codes, scales, out, rows, K: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, WORDS: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """ROWS logits (V,) of x times the norm's weight, without the norm's factor, which changes no order."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    # Rows past the end do the last row's work again, and are not written.
    near = tl.minimum(row, rows - 1)[:, None]
    sums = tl.full((ROWS, WORDS), 0.0, tl.float32)
    EVEN: tl.constexpr = (K // 8) % WORDS == 0
    for start in range(0, K // 8, WORDS):
        word = start + tl.arange(0, WORDS)[None, :]
        inside = word < K // 8
        if not EVEN:
            # Past the end of the row its last word is read again, at a scale of zero.
            word = tl.minimum(word, K // 8 - 1)
        read = tl.load(codes + near * (K // 8) + word, eviction_policy="evict_first")
        # The compiler would read each row's words just before it needs them; across a barrier it cannot put that off.
        tl.debug_barrier()
        scale = _scale(scales + near * (K // GROUP) + word // (GROUP // 8), ASM)
        if not EVEN:
            scale = tl.where(inside, scale, 0.0)
        column = tl.broadcast_to(word * 8, (ROWS, WORDS))
        x0, x1, x2, x3, x4, x5, x6, x7 = eight(x, column, ASM)
        g0, g1, g2, g3, g4, g5, g6, g7 = eight(gain, column, ASM)
        c0, c1, c2, c3, c4, c5, c6, c7 = _codes(read, ASM)
        low = c0 * (x0 * g0) + c1 * (x1 * g1) + c2 * (x2 * g2) + c3 * (x3 * g3)
        high = c4 * (x4 * g4) + c5 * (x5 * g5) + c6 * (x6 * g6) + c7 * (x7 * g7)
        sums += (low + high) * scale
    tl.store(out + row, tl.sum(sums, 1), mask=row < rows)


@triton.jit
def _maxima(logits, maxima, rows, number, SPANS: tl.constexpr, SPAN: tl.constexpr):
    """The largest logit of each of SPANS spans."""
    span = tl.program_id(0) * SPANS + tl.arange(0, SPANS)
    place = span[:, None] * SPAN + tl.arange(0, SPAN)[None, :]
    read = tl.load(logits + place, mask=place < rows, other=float("-inf"))
    tl.store(maxima + span, tl.max(read, 1), mask=span < number)


@triton.jit
def _again(
    x, gain, matrix, logits, maxima, out, rows, number, epsilon, K: tl.constexpr, POWER: tl.constexpr,
    AGAIN: tl.constexpr, NUMBER: tl.constexpr, BLOCK: tl.constexpr, ROUNDS: tl.constexpr,
):  # fmt: skip
    """A block of logits with the norm's factor, the largest of all exactly: those that the least of so many maxima has.

    That least one is found by halving, from below: where it ends, some more are computed, never fewer.
    """
    column = tl.arange(0, POWER)
    wide = tl.load(x + column, mask=column < K, other=0.0).to(tl.float32)
    factor = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / K + epsilon)
    normed = wide * tl.load(gain + column, mask=column < K, other=0.0).to(tl.float32)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    read = tl.load(logits + place, mask=place < rows, other=float("-inf"))
    spans = tl.arange(0, NUMBER)
    tops = tl.load(maxima + spans, mask=spans < number, other=float("-inf"))
    high = tl.max(tops, 0)
    low = tl.min(tl.where(spans < number, tops, high), 0)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        enough = tl.sum((tops >= middle).to(tl.int32), 0) >= AGAIN
        low, high = tl.where(enough, middle, low), tl.where(enough, high, middle)
    low = tl.where(number < AGAIN, float("-inf"), low)
    wanted = (read >= low) & (place < rows)
    result = read * factor
    token = -1
    for _ in range(tl.sum(wanted.to(tl.int32), 0)):
        token = tl.min(tl.where(wanted & (place > token), place, rows - 1), 0)
        row = tl.load(matrix + token.to(tl.int64) * K + column, mask=column < K, other=0.0).to(tl.float32)
        result = tl.where(place == token, tl.sum(row * normed, 0) * factor, result)
    tl.store(out + place, result, mask=place < rows)


def logits(
    x: Tensor, head: Int8Head, norm: tuple[Tensor, float], again: int = AGAIN, tile: Tile | None = None
) -> Tensor:
    """Logits (1, V) of x (1, K) in float32; `norm` is the RMSNorm before, as its weight (K,) and epsilon."""
    rows, columns = head.codes.shape
    gain, epsilon = norm
    tile = tile or Tile(4, next((width for width in (256, 128, 64) if columns // 8 % width == 0), 128))
    assert x.shape == (1, columns) and x.stride(1) == gain.stride(0) == 1
    # Eight numbers of x are read at a time.
    assert x.data_ptr() % 16 == gain.data_ptr() % 16 == 0
    near, out = torch.empty(rows, device=x.device), torch.empty(1, rows, device=x.device)
    number = triton.cdiv(rows, SPAN)
    maxima = torch.empty(number, device=x.device)
    _products[triton.cdiv(rows, tile.rows),](
        x, gain, head.codes.view(torch.int64), head.scales, near, rows, K=columns, GROUP=GROUP, ROWS=tile.rows,
        WORDS=tile.words, ASM=card_of(x.device).ptx, num_warps=max(1, tile.words // 64), enable_fp_fusion=True,
    )  # fmt: skip
    _maxima[triton.cdiv(number, 16),](near, maxima, rows, number, SPANS=16, SPAN=SPAN, num_warps=4)
    _again[triton.cdiv(rows, 256),](
        x, gain, head.exact, near, maxima, out, rows, number, epsilon, K=columns,
        POWER=triton.next_power_of_2(columns), AGAIN=again, NUMBER=triton.next_power_of_2(number), BLOCK=256,
        ROUNDS=12, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return out
