"""Codes taken apart by the GPU's two-lane instructions, which only run there: their text is followed by hand here."""

import pytest
import torch

from engine.kernels.attention.unpack import _assembly, parts, size
from tests.engine.kernels import ptx


def halves(word: int) -> list[float]:
    return torch.tensor([word & 0xFFFF, word >> 16], dtype=torch.int32).to(torch.int16).view(torch.float16).tolist()


@pytest.mark.parametrize("bits", (2, 3, 4, 8))
def test_every_code_comes_out_in_both_lanes(bits: int) -> None:
    low = min(bits, 2) if bits == 3 else bits
    mask = (1 << low) - 1
    for part in range(parts(bits)):
        for code in range(1 << bits):
            other = (code * 7 + 3) % (1 << bits)
            # All other fields are full: none may leak.
            rest = 0xFFFF & ~(mask << part * low)
            units = rest | (code & mask) << part * low | (rest | (other & mask) << part * low) << 16
            # The third bits of eight channels each.
            rest = 0xFF & ~(1 << part)
            third = rest | code >> 2 << part | (rest | other >> 2 << part) << 16
            registers = ptx.run(_assembly(bits, part), {"$1": [units] * 32, "$2": [third & 0xFFFFFFFF] * 32})
            assert [each / size(bits, part) for each in halves(registers["$0"][0])] == [code, other]
