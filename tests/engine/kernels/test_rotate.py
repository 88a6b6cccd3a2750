"""Rotation rows and merging what was seen, by kernels against plain PyTorch."""

import pytest
import torch
from torch import Tensor

from engine.attention.rotation import TorchRotation
from engine.core.lse import AttentionState, reference
from engine.core.quant import hadamard
from engine.kernels.quant.rotate import MOST_PARTS, TritonRotation

# The interpreter knows no products of bfloat16.
DTYPES = (torch.float32, torch.bfloat16 if torch.cuda.is_available() else torch.float16)
EXACT = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}


def numbers(seed: int, *sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def seen(seed: int, heads: int, queries: int, dim: int, device: torch.device, dtype: torch.dtype) -> AttentionState:
    """Outputs of differing weight, laid out as flash attention lays them out for every second seed."""
    out, lse = numbers(seed, heads, queries, dim), 4 * numbers(seed + 100, heads, queries)
    if seed % 2:
        out = out.transpose(0, 1).contiguous().transpose(0, 1)
    return out.to(device, dtype), lse.to(device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", ((1, 64), (63, 128), (2, 5, 96), (3, 111, 64), (1, 1, 256)))
def test_turned(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    rows = numbers(1, *sizes).to(device, dtype)
    rotation = hadamard(sizes[-1], device)
    kernels, plain = TritonRotation(), TorchRotation()
    ours = kernels.rotate(rows, rotation)
    assert ours.shape == rows.shape and ours.dtype == dtype
    torch.testing.assert_close(ours, plain.rotate(rows, rotation), rtol=EXACT[dtype], atol=EXACT[dtype])
    apart = rows.new_full((*sizes[:-1], sizes[-1] + 3), torch.nan)[..., 1:-2].copy_(rows)
    assert torch.equal(kernels.rotate(apart, rotation), ours)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rotated", (True, False))
@pytest.mark.parametrize(
    ("proximal", "distant", "heads", "queries", "dim"),
    ((1, 0, 1, 1, 64), (2, 1, 4, 37, 64), (1, 3, 2, 63, 128), (2, 5, 3, 9, 96), (2, MOST_PARTS, 2, 5, 64)),
)
def test_merged(
    proximal: int,
    distant: int,
    heads: int,
    queries: int,
    dim: int,
    rotated: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    parts = [seen(number, heads, queries, dim, device, dtype) for number in range(proximal + distant)]
    rotation = hadamard(dim, device) if rotated else None
    ours = TritonRotation().merge_rotated(parts[:proximal], parts[proximal:], rotation)
    assert ours.shape == (heads, queries, dim) and ours.transpose(0, 1).is_contiguous()
    wide = [(out.double(), lse.double()) for out, lse in parts]
    wanted = torch.zeros(heads, queries, dim, dtype=torch.float64, device=device)
    total = torch.stack([lse for _, lse in wide]).logsumexp(0)
    for number, (out, lse) in enumerate(wide):
        back = out @ rotation.double() if number >= proximal and rotation is not None else out
        wanted += torch.exp(lse - total)[..., None] * back
    torch.testing.assert_close(ours.double(), wanted, rtol=EXACT[dtype], atol=EXACT[dtype])
    plain = TorchRotation().merge_rotated(parts[:proximal], parts[proximal:], rotation)
    torch.testing.assert_close(plain.double(), wanted, rtol=EXACT[dtype], atol=EXACT[dtype])


def test_padding_behind_a_chunk_is_not_read(device: torch.device) -> None:
    """Outputs and log-sum-exps that are slices of longer ones."""
    parts = [seen(number, 2, 40, 64, device, torch.float32) for number in (0, 2)]
    cut = [(out[:, :33].clone(), lse[:, :33].clone()) for out, lse in parts]
    for out, lse in parts:
        out[:, 33:], lse[:, 33:] = torch.nan, torch.nan
    rotation = hadamard(64, device)
    slices = [(out[:, :33], lse[:, :33]) for out, lse in parts]
    ours, wanted = (TritonRotation().merge_rotated(each[:1], each[1:], rotation) for each in (slices, cut))
    assert torch.equal(ours, wanted)


def test_runs_of_attention_are_attention_over_all(device: torch.device) -> None:
    """Keys and values in two runs, the first of them kept turned: as the reference sees them in one piece."""
    query, keys, values = (numbers(seed, 3, 50, 64).to(device) for seed in (1, 2, 3))
    rotation, kernels = hadamard(64, device), TritonRotation()
    asked = kernels.rotate(query, rotation)
    distant = reference(asked, keys[:, :30] @ rotation, values[:, :30] @ rotation, 0.125, False)
    proximal = reference(query, keys[:, 30:], values[:, 30:], 0.125, False)
    wanted = reference(query, keys, values, 0.125, False)[0]
    torch.testing.assert_close(kernels.merge_rotated([proximal], [distant], rotation), wanted, rtol=1e-4, atol=1e-4)
