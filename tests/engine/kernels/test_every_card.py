"""Every kernel compiled for every card, without one: what it needs of shared memory the card has.

A few by default; with `-m slow` so many that every card meets every head size, number of rows and format.
"""

from collections.abc import Sequence

import pytest

from tests.engine.kernels.compiling import SHARED_BYTES, Case, compiled
from tests.pairwise import pairwise

CARDS = tuple(SHARED_BYTES)
HEAD_SIZES = (64, 80, 96, 128, 192, 256)
ROWS = (4, 16, 64)
"""Of a KV head: few, many for a narrow tile, and those of a wide one."""
FORMATS = ((16, 16), (8, 8), (4, 4), (16, 4))
"""Bits of keys and values."""
MOST_SPILLED = 320
"""Bytes a thread of registers that go through memory: merging rotated heads of 256 on Hopper takes 312."""
TIGHT = (
    Case("attention", (256, 64, 16, 16), 86),
    Case("attention", (256, 64, 16, 4), 89),
    Case("attention", (128, 4, 4, 4), 120),
    Case("rotation", (256,), 86),
    Case("quantization", (256, 4, "channel", True), 89),
    Case("products", (1, "nf4", False), 120),
)
"""What needs most of the smallest cards, and one of each kind of kernel."""
MOST = (
    # The largest heads on the smallest card, whatever else.
    *(Case("attention", (dim, rows, *bits), 86) for dim in (192, 256) for rows in ROWS for bits in FORMATS),
    *(Case("attention", (dim, rows, *bits), card) for card, dim, rows, bits in pairwise(
        CARDS, HEAD_SIZES, ROWS, FORMATS)),
    *(Case("quantization", tuple(given), card) for card, *given in pairwise(
        CARDS, HEAD_SIZES, (8, 4), ("channel", "token"), (False, True))),
    *(Case("products", tuple(given), card) for card, *given in pairwise(
        CARDS, (1, 2, 8, 32), ("nf4", "nf4-flat"), (False, True))),
    *(Case(name, (dim,), card) for name, card, dim in pairwise(
        ("rotation", "new_tokens", "many_rows"), CARDS, HEAD_SIZES)),
    *(Case("head", (), card) for card in CARDS),
)  # fmt: skip


def test_the_tightest_fit() -> None:
    assert not problems(TIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(MOST), 20))
def test_everything_fits(first: int) -> None:
    assert not problems(MOST[first : first + 20])


def problems(cases: Sequence[Case]) -> list[str]:
    """What a card could not launch, or would be slow at, since registers go through memory."""
    found = []
    for case, kernels in zip(cases, compiled(cases), strict=True):
        for kernel in kernels:
            if kernel.shared > SHARED_BYTES[case.card]:
                found.append(f"{case} {kernel.name}: {kernel.shared} bytes of shared memory")
            if kernel.warps & (kernel.warps - 1) or kernel.warps > 32:
                found.append(f"{case} {kernel.name}: {kernel.warps} warps")
            if kernel.spilled > MOST_SPILLED:
                found.append(f"{case} {kernel.name}: {kernel.spilled} bytes of registers in memory")
        assert kernels, case
    return found
