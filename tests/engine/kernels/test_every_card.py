"""Every kernel compiled for every card, without one: what it needs of shared memory the card has.

Combinations are chosen so that each value meets each other one of card, head size, rows and format; all of them are
left to `-m slow`.
"""

from collections.abc import Sequence

import pytest

from tests.engine.kernels.compiling import SHARED_BYTES, Case, compiled

HEAD_SIZES = (64, 80, 96, 128, 192, 256)
ROWS = (4, 16, 64)
"""Of a KV head: few, many for a narrow tile, and those of a wide one."""
FORMATS = ((16, 16), (8, 8), (4, 4), (16, 4))
"""Bits of keys and values."""
MOST_SPILLED = 320
"""Bytes a thread of registers that go through memory: merging rotated heads of 256 on Hopper takes 312."""
TIGHT = (
    Case("attention", (256, 64, 16, 16), 86),
    Case("attention", (192, 16, 4, 4), 89),
    Case("attention", (256, 64, 16, 4), 89),
    Case("attention", (80, 64, 8, 8), 80),
    Case("attention", (128, 4, 4, 4), 120),
    Case("rotation", (256,), 86),
    Case("quantization", (256, 4, "channel", True), 89),
    Case("products", (32, "nf4", True), 86),
    Case("products", (1, "nf4", False), 120),
)
"""What needs most of the smallest cards, and one of each kind of kernel."""
ALL = (
    *(Case("attention", (dim, rows, *bits), card)
      for card in SHARED_BYTES for dim in HEAD_SIZES for rows in ROWS for bits in FORMATS),
    *(Case("quantization", (dim, bits, per, rotated), card)
      for card in SHARED_BYTES for dim in HEAD_SIZES
      for bits, per, rotated in ((8, "channel", False), (4, "channel", True), (8, "token", True), (4, "token", False))),
    *(Case(name, (dim,), card) for card in SHARED_BYTES for dim in HEAD_SIZES
      for name in ("rotation", "new_tokens", "many_rows")),
    *(Case("products", (batch, kind, gated), card) for card in SHARED_BYTES for batch in (1, 2, 8, 32)
      for kind in ("nf4", "nf4-flat", "dense") for gated in (False, True)),
    *(Case("head", (), card) for card in SHARED_BYTES),
)  # fmt: skip


def test_the_tightest_fit() -> None:
    assert not problems(TIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(ALL), 20))
@pytest.mark.timeout(3600)
def test_all_fit(first: int) -> None:
    assert not problems(ALL[first : first + 20])


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
