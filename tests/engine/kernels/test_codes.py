"""Codes taken apart by the GPU's two-lane instructions, which only run there: their text is followed by hand here."""

import re

import pytest
import torch

from engine.kernels.codes import _assembly, parts, size


def halves(word: int) -> list[float]:
    return torch.tensor([word & 0xFFFF, word >> 16], dtype=torch.int32).to(torch.int16).view(torch.float16).tolist()


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
        if name == "shr.u32":
            held[target] = sources[0] >> sources[1]
        elif name == "shl.b32":
            held[target] = (sources[0] << sources[1]) & 0xFFFFFFFF
        elif name == "and.b32":
            held[target] = sources[0] & sources[1]
        elif name == "prmt.b32":
            octets = (sources[1] << 32 | sources[0]).to_bytes(8, "little")
            held[target] = int.from_bytes(bytes(octets[sources[2] >> 4 * at & 7] for at in range(4)), "little")
        else:
            assert name == "lop3.b32" and sources[3] == 0xE4  # the first where the third is set, else the second
            first, second, mask = sources[:3]
            held[target] = sum(
                (0xE4 >> ((first >> bit & 1) << 2 | (second >> bit & 1) << 1 | mask >> bit & 1) & 1) << bit
                for bit in range(32)
            )
    return halves(held["$0"])


@pytest.mark.parametrize("bits", (2, 3, 4, 8))
def test_every_code_comes_out_in_both_lanes(bits: int) -> None:
    """As a float16 below the normal ones: the code times the size of its field."""
    low = 2 if bits == 3 else bits
    for part in range(parts(bits)):
        for code in range(1 << bits):
            other = (code * 7 + 3) % (1 << bits)
            # All other fields are full: none may leak.
            rest = 0xFFFF & ~(((1 << low) - 1) << part * low)
            mask = (1 << low) - 1
            units = rest | (code & mask) << part * low | (rest | (other & mask) << part * low) << 16
            thirds = 0xFF & ~(1 << part)
            high = thirds | code >> 2 << part | (thirds | other >> 2 << part) << 16
            found = follow(_assembly(bits, part), units, high)
            assert found == [code * size(bits, part), other * size(bits, part)]
