"""Rotating by the Hadamard matrix inside a kernel (QuaRot, arXiv 2404.00456): one row in rounds, many by tensor cores.

The specification is a product with `engine.core.quant.hadamard`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.kernels.card import card_of

_SMALL_CHUNK = 64
"""Rows of the matrix that meet at once where a card's shared memory does not hold all of it."""


@triton.constexpr_function
def _run(dim):
    """Channels that are rotated together: the largest power of two that divides D."""
    return dim & -dim


@triton.constexpr_function
def _rounds(dim):
    return _run(dim).bit_length() - 1


@triton.jit
def rotate_row(numbers, D: tl.constexpr):
    """Numbers (WIDTH,) of D channels, rotated; WIDTH is the power of two from D on.

    The fast Walsh-Hadamard transform: sums and differences in rounds, without the matrix itself.
    """
    RUN: tl.constexpr = _run(D)
    WIDTH: tl.constexpr = numbers.shape[0]
    for _ in tl.static_range(_rounds(D)):
        # Neighbours meet and part to the two halves of their run; after all rounds every channel is back in its place.
        even, odd = tl.split(tl.reshape(numbers, (WIDTH // RUN, RUN // 2, 2)))
        halves = tl.permute(tl.join(even + odd, even - odd), (0, 2, 1))
        numbers = tl.reshape(halves, (WIDTH,))
    return numbers * RUN**-0.5


@triton.jit
def rotate_loaded(
    rows, row_mask, signs, length, D: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """Rows (ROWS, WIDTH) of D channels at pointers (ROWS, 1), times the rotation, in float32.

    `signs` (D, D) are the rotation's entries as 0 and +-1, exact in every dtype; `length` is what they lack.
    """
    channels = tl.arange(0, WIDTH)
    rotated = tl.zeros((rows.shape[0], WIDTH), tl.float32)
    for start in tl.range(0, WIDTH, CHUNK, num_stages=1):
        chunk = start + tl.arange(0, CHUNK)
        x = tl.load(rows + chunk[None, :], mask=row_mask[:, None] & (chunk < D)[None, :], other=0.0)
        inside = (chunk < D)[:, None] & (channels < D)[None, :]
        matrix = tl.load(signs + chunk[:, None] * D + channels[None, :], mask=inside, other=0.0)
        rotated = tl.dot(x, matrix, rotated, input_precision=PRECISION)
    return rotated * length


def signs_of(rotation: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
    """A rotation (D, D) as whole numbers, which every dtype holds exactly, and the number they lack."""
    dim = len(rotation)
    return rotation.sign().to(dtype), float((dim & -dim) ** -0.5)


def chunk_of(rows: int, like: Tensor) -> int:
    """CHUNK of `rotate_loaded` for so many rows at once: the whole width where the card holds both operands."""
    width = triton.next_power_of_2(like.shape[-1])
    card = card_of(like.device)
    # Before Hopper tensor cores take their operands from registers, which do not hold so wide ones.
    fits = (rows + width) * width * like.itemsize <= card.shared_bytes and (width <= 128 or card.capability >= (9, 0))
    return width if fits else _SMALL_CHUNK
