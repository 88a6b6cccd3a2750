"""Rotating by the Hadamard matrix inside a kernel: sums and differences in rounds, without the matrix itself.

The fast Walsh-Hadamard transform; the specification is a product with `engine.core.quant.hadamard`.
"""

import triton
import triton.language as tl


@triton.constexpr_function
def _run(dim):
    """Channels that are rotated together: the largest power of two that divides D."""
    return dim & -dim


@triton.constexpr_function
def _rounds(dim):
    return _run(dim).bit_length() - 1


@triton.jit
def rotate_row(numbers, D: tl.constexpr):
    """Numbers (WIDTH,) of D channels, rotated; WIDTH is the power of two from D on."""
    RUN: tl.constexpr = _run(D)
    WIDTH: tl.constexpr = numbers.shape[0]
    for _ in tl.static_range(_rounds(D)):
        # Neighbours meet and part to the two halves of their run; after all rounds every channel is back in its place.
        even, odd = tl.split(tl.reshape(numbers, (WIDTH // RUN, RUN // 2, 2)))
        halves = tl.permute(tl.join(even + odd, even - odd), (0, 2, 1))
        numbers = tl.reshape(halves, (WIDTH,))
    return numbers * RUN**-0.5
