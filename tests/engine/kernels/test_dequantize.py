"""Unpacking by a kernel: the numbers of precision.dequantize, also where heads lie apart."""

import pytest
import torch
from torch import Tensor

from engine.core import quant
from engine.core.quant import Packed, hadamard, scale_shape
from engine.kernels.quant.dequantize import dequantize_into
from engine.kernels.quant.quantize import quantize_into
from tests.pairwise import pairwise


def room(heads: int, count: int, dim: int, bits: int, per: str, device: torch.device) -> Packed:
    """Where heads lie further apart than their rows need, with NaN or other noise between them."""
    rows, width = scale_shape(count, dim, per)
    codes = torch.full((heads, count + 5, dim * bits // 8), 255, dtype=torch.uint8, device=device)[:, 2 : 2 + count]
    scales, zeros = torch.full((2, heads, rows + 3, width), torch.nan, dtype=torch.float16, device=device)[:, :, 1:-2]
    return Packed(bits, per, codes, scales, zeros)


def ranges_of(heads: int, count: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    numbers = torch.randn(heads, count, dim, generator=torch.Generator().manual_seed(count))
    return (numbers * torch.linspace(0.1, 9, dim)).to(device, dtype)


@pytest.mark.parametrize(
    ("sizes", "dtype", "bits", "per"),
    pairwise(
        ((2, 1, 64), (1, 63, 128), (2, 111, 96), (1, 1000, 256), (1, 4097, 64)),
        (torch.float32, torch.float16, torch.bfloat16),
        (8, 4, 3),
        ("channel", "token"),
    ),
)
def test_the_same_numbers(sizes, dtype, bits, per, device: torch.device) -> None:
    heads, count, dim = sizes
    packed = room(heads, count, dim, bits, per, device)
    quant.quantize_into(ranges_of(heads, count, dim, device, dtype), packed)
    out = torch.full((heads, count + 7, dim), torch.nan, dtype=dtype, device=device)
    expected = torch.empty(heads, count, dim, dtype=dtype, device=device)
    dequantize_into(packed, out[:, 3:-4])
    quant.dequantize_into(packed, expected)
    # A product and a sum may be rounded once or twice.
    torch.testing.assert_close(out[:, 3:-4], expected, rtol=1e-6 if dtype == torch.float32 else 8e-3, atol=1e-5)
    assert (out[:, 3:-4] == expected).float().mean() > 0.5 and out[:, :3].isnan().all() and out[:, -4:].isnan().all()


@pytest.mark.parametrize("turned", (False, True))
@pytest.mark.parametrize(("bits", "per"), ((4, "channel"), (8, "token"), (2, "token"), (16, "channel")))
def test_quantized_to_where_heads_lie_apart(bits: int, per: str, turned: bool, device: torch.device) -> None:
    rows, rotation = ranges_of(3, 100, 64, device, torch.float32), hadamard(64, device)
    here = room(3, 100, 64, bits, per, device)
    if bits == 16:
        here = Packed(16, per, torch.empty_like(rows), *torch.empty(2, 3, 0, dtype=torch.float16, device=device))
    quantize_into(rows, here, rotation if turned else None)
    back = torch.empty_like(rows)
    quant.dequantize_into(here, back)
    for head, each in enumerate(rows @ rotation if turned else rows):
        expected = quant.dequantize(quant.quantize(each, bits, per), torch.float32)
        assert ((back[head] - expected).abs() > 1e-4).float().mean() < 0.01
