"""Numbers in few bits: codes that come back, errors no greater than half a step, and bytes as the formula says."""

import pytest
import torch
from torch import Tensor

from engine.core.quant import GROUP, channel_group, dequantize, hadamard, pack, packed_bytes, quantize, unpack
from tests.pairwise import pairwise

BITS = (2, 3, 4, 8)
PER = ("channel", "token")


def rows(count: int, dim: int = 64, seed: int = 0) -> Tensor:
    """Rows with a few channels that are large at every token, as keys have."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator) * torch.linspace(0.1, 5, dim) + torch.linspace(-3, 3, dim)


@pytest.mark.parametrize("bits", (1, *BITS))
def test_codes_come_back(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (17, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.shape == (17, 32 * bits // 8)
    assert torch.equal(unpack(packed, bits), codes)


@pytest.mark.parametrize(("count", "bits", "per"), pairwise((1, 63, 64, 65, 200), BITS, PER))
def test_against_a_slow_reference(bits: int, per: str, count: int) -> None:
    """Every number lies within half a step of what its group's range allows, in float64 by hand."""
    wide = rows(count)
    read = dequantize(quantize(wide, bits, per), torch.float32).double()
    for row in range(count):
        first = row - row % GROUP
        for channel in range(0, 64, 7):
            group = wide[first : first + GROUP, channel] if per == "channel" else wide[row]
            group = group.double()
            step = (group.max() - group.min()) / (2**bits - 1)
            # At two and three bits the range may be cut by 30 %; float16 scales round a little.
            most = step / 2 if bits >= 4 else torch.maximum(step / 2, 0.15 * (group.max() - group.min()) + step / 2)
            slack = 2e-3 * group.abs().max()
            assert (read[row, channel] - wide[row, channel].double()).abs() <= most + slack


@pytest.mark.parametrize("per", PER)
def test_cutting_the_range_never_adds_to_the_error(per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = rows(256, seed=3)
    for bits in (2, 3):
        cut = (dequantize(quantize(wide, bits, per), torch.float32) - wide).square().sum()
        with monkeypatch.context() as patch:
            patch.setattr("engine.core.quant._SHRINKS", (1.0,))
            whole = (dequantize(quantize(wide, bits, per), torch.float32) - wide).square().sum()
        assert cut < whole


def test_more_bits_are_nearer_and_exact_rows_stay_themselves() -> None:
    wide = rows(130)
    errors = [(dequantize(quantize(wide, bits, "channel"), torch.float32) - wide).norm() for bits in BITS]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02 * wide.norm()
    assert torch.equal(dequantize(quantize(wide.bfloat16(), 16, "token"), torch.bfloat16), wide.bfloat16())


@pytest.mark.parametrize(
    ("bits", "dim", "count", "per"), pairwise((*BITS, 16), (64, 96, 128, 256), (0, 1, 64, 111), PER)
)
def test_bytes_are_those_of_the_formula(bits: int, per: str, count: int, dim: int) -> None:
    packed = quantize(rows(count, dim).bfloat16(), bits, per)
    assert packed.nbytes == packed_bytes(count, dim, bits, per, torch.bfloat16)
    assert dequantize(packed, torch.bfloat16).shape == (count, dim)
    assert channel_group(dim) == min(dim, 128)


def test_equal_numbers_and_huge_ones_stay_finite() -> None:
    wide = torch.cat([torch.full((70, 64), 2.5), torch.full((3, 64), 3e4)])
    for per in PER:
        read = dequantize(quantize(wide, 4, per), torch.float32)
        assert read.isfinite().all() and (read - wide).abs().max() <= 1e3


def test_a_rotation_undoes_itself() -> None:
    for dim, run in ((16, 16), (64, 64), (128, 128), (96, 32), (80, 16)):
        matrix = hadamard(dim, torch.device("cpu"))
        torch.testing.assert_close(matrix @ matrix, torch.eye(dim))
        assert (matrix != 0).sum(1).tolist() == [run] * dim
