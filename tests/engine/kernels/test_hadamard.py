"""Rotating without the matrix: the same numbers as with it, and no matrix read by the kernels that rotate."""

import re

import pytest
import torch
import triton
import triton.language as tl

from engine.core.quant import hadamard
from engine.kernels.quant.hadamard import rotate_row
from tests.engine.kernels.compiling import Case, compiled


@triton.jit
def _rotate(rows, out, D: tl.constexpr, WIDTH: tl.constexpr):
    channels = tl.arange(0, WIDTH)
    place = tl.program_id(0) * D + channels
    numbers = tl.load(rows + place, mask=channels < D, other=float("nan"))
    tl.store(out + place, rotate_row(numbers, D), mask=channels < D)


@pytest.mark.parametrize(("dim", "warps"), ((16, 1), (64, 8), (80, 1), (96, 8), (128, 1), (128, 8), (256, 8)))
def test_as_by_the_matrix(dim: int, warps: int, device: torch.device) -> None:
    """Each channel alone, and all together; what stands behind the last one does not matter."""
    rows = torch.cat([torch.eye(dim), torch.randn(3, dim, generator=torch.Generator().manual_seed(0))]).to(device)
    out = torch.empty_like(rows)
    _rotate[len(rows),](rows, out, D=dim, WIDTH=triton.next_power_of_2(dim), num_warps=warps)
    torch.testing.assert_close(out, rows @ hadamard(dim, device), rtol=1e-5, atol=1e-6)


def test_placing_a_query_reads_no_matrix() -> None:
    """For Hopper: nor is anything of the launch before read before its end."""
    (kernels,) = compiled([Case("new_tokens", (128,))])
    _, code = (each.ptx for each in kernels if each.name == "_rope_append")
    wait = code.index("griddepcontrol.wait")
    reads = [found.start() for found in re.finditer(r"ld\.global", code)]
    # Ahead: the tail's length and the position.
    assert len([at for at in reads if at < wait]) == 2 and len(reads) <= 20
    assert all(found.start() > wait for found in re.finditer(r"st\.global", code))


def test_merging_reads_no_matrix() -> None:
    """Where rotated splits begin, and nothing else."""
    plain, rotated = compiled([Case("attention", (128, 4, 16, 16)), Case("attention", (128, 4, 4, 4))])
    plain_reads, rotated_reads = (kernels[-1].ptx.count("ld.global") for kernels in (plain, rotated))
    assert plain[-1].name == "reduce_splits" and rotated_reads == plain_reads + 1
