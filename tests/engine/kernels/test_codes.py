"""Codes taken apart by the GPU's two-lane instructions, which only run there: their text is followed by hand here."""

import re

import pytest
import torch

from engine.kernels.codes import _assembly, parts


def halves(word: int) -> list[float]:
    return torch.tensor([word & 0xFFFF, word >> 16], dtype=torch.int32).to(torch.int16).view(torch.float16).tolist()


def word(numbers: list[float]) -> int:
    low, high = torch.tensor(numbers, dtype=torch.float16).view(torch.int16).tolist()
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def follow(text: str, *arguments: int) -> list[float]:
    """Run the few instructions that there are; the last one's result."""
    held = {f"${number}": value for number, value in enumerate(arguments, 1)}

    def value(name: str) -> int:
        return held[name] if name in held else int(name, 0)

    for line in re.sub(r"[{}]|\.reg[^;]*;", "", text).split(";"):
        if not line.strip():
            continue
        name, *operands = line.replace(",", " ").split()
        target, *sources = operands[0], *map(value, operands[1:])
        if name == "mov.b32":
            held[target] = sources[0]
        elif name == "shr.u32":
            held[target] = sources[0] >> sources[1]
        elif name == "lop3.b32":
            assert sources[3] == 0xEA  # (a and b) or c
            held[target] = sources[0] & sources[1] | sources[2]
        else:
            a, b, *c = (torch.tensor(halves(each), dtype=torch.float64) for each in sources)
            assert name in ("sub.f16x2", "fma.rn.f16x2")
            exact = a * b + c[0] if c else a - b
            held[target] = word(exact.tolist())
    return halves(held["$0"])


@pytest.mark.parametrize("centre", (False, True))
@pytest.mark.parametrize("bits", (2, 4, 8))
def test_every_code_comes_out_in_both_lanes(bits: int, centre: bool) -> None:
    middle = 1 << (bits - 1) if centre else 0
    for part in range(parts(bits)):
        for code in range(1 << bits):
            other = (code * 7 + 3) % (1 << bits)
            # All other fields are full: none may leak.
            rest = 0xFFFF & ~(((1 << bits) - 1) << part * bits)
            units = rest | code << part * bits | (rest | other << part * bits) << 16
            assert follow(_assembly(bits, part, middle, False), units) == [code - middle, other - middle]
            scaled = follow(_assembly(bits, part, 0, True), units, word([0.5, 0.25]), word([-3.0, 7.0]))
            assert scaled == [code * 0.5 - 3, other * 0.25 + 7]
