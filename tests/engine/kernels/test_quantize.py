"""Quantizing by a kernel: the same bits as precision.quantize."""

import pytest
import torch
from torch import Tensor

from engine.core import quant
from engine.core.quant import dequantize, hadamard
from engine.kernels.quant.quantize import quantize
from tests.pairwise import pairwise


def ranges_of(heads: int, count: int, dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rows with channels that are large at every token, one that never changes, and zeros of both signs."""
    numbers = torch.randn(heads, count, dim, generator=torch.Generator().manual_seed(count)) * torch.linspace(
        0.1, 9, dim
    )
    numbers[..., 3] = 2.5
    numbers[..., 5] = -0.0
    return numbers.to(device, dtype)


@pytest.mark.parametrize(
    ("sizes", "dtype", "bits", "per"),
    pairwise(
        ((2, 1, 64), (1, 63, 128), (2, 200, 96), (3, 111, 256)),
        (torch.float32, torch.float16, torch.bfloat16),
        (8, 4, 3),
        ("channel", "token"),
    ),
)
def test_the_same_bits(sizes, dtype, bits, per, device: torch.device) -> None:
    rows = ranges_of(*sizes, dtype, device)
    for got, head in zip(quantize(rows, bits, per), rows, strict=True):
        expected = quant.quantize(head, bits, per)
        assert (got.bits, got.per, got.nbytes) == (bits, per, expected.nbytes)
        for name in ("codes", "scales", "zeros"):
            assert torch.equal(getattr(got, name), getattr(expected, name)), name
            assert getattr(got, name).is_contiguous() and getattr(got, name).data_ptr() % 16 == 0


@pytest.mark.parametrize("per", ("channel", "token"))
@pytest.mark.parametrize(("bits", "dim"), ((8, 64), (4, 96), (4, 128), (2, 64), (4, 256)))
def test_rotated_first(bits: int, dim: int, per: str, device: torch.device) -> None:
    """A rotation sums in another order, so a code may differ by one where a number lies between two."""
    rotation = hadamard(dim, device)
    rows = ranges_of(2, 100, dim, torch.float32, device)
    for got, head in zip(quantize(rows, bits, per, rotation), rows, strict=True):
        expected = quant.quantize(head @ rotation, bits, per)
        torch.testing.assert_close(got.scales, expected.scales, rtol=2e-3, atol=1e-6)
        step = expected.scales.float().max()
        differences = (dequantize(got, torch.float32) - dequantize(expected, torch.float32)).abs()
        assert differences.max() <= 1.1 * step and (differences > 0.01 * step).float().mean() < 0.01


def test_heads_seen_through_strides_and_no_rows(device: torch.device) -> None:
    rows = ranges_of(70, 2, 64, torch.float32, device).transpose(0, 1)
    for got, head in zip(quantize(rows, 4, "token"), rows, strict=True):
        assert torch.equal(got.codes, quant.quantize(head, 4, "token").codes)
    assert [len(each.codes) for each in quantize(rows[:, :0], 4, "channel")] == [0, 0]
