"""Chosen rows of many packed tensors, against the specification."""

import pytest
import torch

from engine.core.quant import dequantize, quantize
from engine.kernels.quant.gather import addresses, gather
from engine.kvcache import quantized
from tests.engine.kernels.pods import model, pod


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
    found = gather(addresses(packed), packed[0], owners, places, torch.float32)
    torch.testing.assert_close(found, torch.cat(wanted))


def test_nothing_chosen(device: torch.device) -> None:
    packed = [quantize(torch.ones(3, 64, device=device), 4, "token")]
    nothing = torch.zeros(0, dtype=torch.long, device=device)
    assert gather(addresses(packed), packed[0], nothing, nothing.int(), torch.bfloat16).shape == (0, 64)


@pytest.mark.parametrize("recipe", ["keep40:random+k4v4h", "k8v3", "A35+keep40:random+k16v4"])
def test_a_passage_by_kernels_is_that_of_pytorch(
    recipe: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sinks, tokens in the middle, and some of the last, as well as everything."""
    of = model(2, 1, 64, torch.float32, device)
    whole, slots = pod(of, recipe, 150), torch.tensor([0, 1, 2, 3, 9, *range(60, 90), 140])
    opened = []
    for kernels in (False, True):
        monkeypatch.setattr(quantized, "why_not_triton", lambda _, kernels=kernels: "" if kernels else "none here")
        opened.append((whole.select(slots), whole.open()))
    for ours, theirs in zip(*opened, strict=True):
        assert ours.counts == theirs.counts and ours.num_tokens == theirs.num_tokens
        for name in ("keys", "values", "positions"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    assert opened[0][0].num_tokens == 141
