"""Chosen rows of many packed tensors, against the specification."""

import pytest
import torch

from engine.core.quant import dequantize, quantize
from engine.kernels.quant.gather import gather


@pytest.mark.parametrize("dim", [64, 128, 96])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("per", ["channel", "token"])
def test_gathered_rows_are_those_of_the_specification(bits: int, per: str, dim: int, device: torch.device) -> None:
    """Of owners with different numbers of rows, one of which is not asked for."""
    generator = torch.Generator().manual_seed(bits)
    sizes = (150, 7, 64, 65)
    packed = [quantize(torch.randn(size, dim, generator=generator).to(device), bits, per) for size in sizes]
    chosen = {0: [0, 63, 64, 70, 149], 1: [6], 3: [*range(40), 64]}
    owners = torch.tensor([owner for owner, rows in chosen.items() for _ in rows], device=device)
    places = torch.tensor([row for rows in chosen.values() for row in rows], dtype=torch.int32, device=device)
    wanted = [dequantize(packed[owner], torch.float32, torch.tensor(rows).to(device)) for owner, rows in chosen.items()]
    torch.testing.assert_close(gather(packed, owners, places, torch.float32), torch.cat(wanted))


def test_nothing_chosen(device: torch.device) -> None:
    packed = [quantize(torch.ones(3, 64, device=device), 4, "token")]
    nothing = torch.zeros(0, dtype=torch.long, device=device)
    assert gather(packed, nothing, nothing.int(), torch.bfloat16).shape == (0, 64)
