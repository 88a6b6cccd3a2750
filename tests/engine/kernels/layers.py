"""Random layers for the tests of kernels, in the formats that real ones have."""

import torch
from torch import Tensor

from engine.kernels.linear.weights import Nf4Weight, nf4_weight


def matrix(rows: int, columns: int, seed: int, device: torch.device) -> Tensor:
    """Weights (N, K) of about the size of a trained layer's, in float32."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=generator) / columns**0.5).to(device)


def nf4(
    rows: int, columns: int, device: torch.device, *, nested: bool = True, bias: bool = False, seed: int = 0
) -> Nf4Weight:
    """A layer as bitsandbytes quantizes it."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(
        matrix(rows, columns, seed, device), blocksize=64, quant_type="nf4", compress_statistics=nested
    )
    return nf4_weight(packed, state, vector(rows, seed, device) if bias else None)


def vector(size: int, seed: int, device: torch.device) -> Tensor:
    """Numbers around one: a bias, or the weight of a norm."""
    return (1 + torch.randn(size, generator=torch.Generator().manual_seed(seed + 1000)) / 4).to(device)


def rows_of_x(count: int, columns: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Inputs (B, K)."""
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(7)).to(device, dtype)
