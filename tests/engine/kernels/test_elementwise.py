"""What stands around products of many rows, by kernels against engine.models.ops.PlainOps."""

import pytest
import torch
from torch import Tensor, nn

from engine.kernels import elementwise
from engine.models.ops import PlainOps

# The interpreter cuts numbers off where bfloat16 is rounded.
HALF = torch.bfloat16 if torch.cuda.is_available() else torch.float16
DTYPES = (torch.float32, HALF)
STEP = {torch.float32: 1e-5, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
"""Of two neighbouring numbers, at most."""
PLAIN = PlainOps()


def numbers(seed: int, dtype: torch.dtype, device: torch.device, *sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def same(ours: Tensor, wanted: Tensor) -> None:
    """Up to the order of sums: now and then a number may be rounded to its neighbour."""
    torch.testing.assert_close(ours, wanted, rtol=STEP[ours.dtype], atol=1e-5)
    if ours.dtype == HALF and ours.numel() > 1000:
        assert (ours == wanted).float().mean() > 0.98


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "columns"), ((1, 64), (63, 576), (111, 128), (7, 4096), (3, 5000)))
def test_norm(count: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
    x, gain = 3 * numbers(1, dtype, device, count, columns), numbers(2, dtype, device, columns)
    same(elementwise.norm(x, gain, 1e-5), PLAIN.norm(x, (gain, 1e-5)))
    apart = torch.full((count, columns + 8), torch.nan, dtype=dtype, device=device)[:, 3:-5].copy_(x)
    assert torch.equal(elementwise.norm(apart, gain, 1e-5), elementwise.norm(x, gain, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "columns"), ((1, 64), (63, 100), (3, 4097)))
def test_gate(count: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
    both = 4 * numbers(1, dtype, device, count, 2 * columns)
    same(elementwise.gate(both), nn.functional.silu(both[:, :columns]) * both[:, columns:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "heads", "dim"), ((1, 1, 64), (63, 12, 96), (17, 9, 128), (111, 3, 256)))
def test_rope(count: int, heads: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """Heads that are some of those of a fused projection."""
    x = numbers(1, dtype, device, count, heads + 3, dim)[:, 1 : 1 + heads]
    angles = numbers(2, torch.float32, device, count, 1, dim // 2).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin()
    sin = torch.cat([-sin[..., : dim // 2], sin[..., dim // 2 :]], -1).to(dtype)
    ours = elementwise.rope(x, cos, sin)
    assert ours.shape == x.shape and ours.transpose(0, 1).is_contiguous()
    exact = PLAIN.rope(x.float(), cos.float(), sin.float())
    torch.testing.assert_close(ours.float(), exact, rtol=STEP[dtype], atol=1e-5)
