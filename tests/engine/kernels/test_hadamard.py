"""Rotating without the matrix: the same numbers as with it, and no matrix read by the kernels that rotate."""

import re

import pytest
import torch
import triton
import triton.language as tl

from engine.core.quant import hadamard
from engine.kernels.quant.hadamard import rotate_row
from tests.engine.kernels.hopper import ptx_of


@triton.jit
def _rotate(rows, out, D: tl.constexpr, WIDTH: tl.constexpr):
    channels = tl.arange(0, WIDTH)
    place = tl.program_id(0) * D + channels
    numbers = tl.load(rows + place, mask=channels < D, other=float("nan"))
    tl.store(out + place, rotate_row(numbers, D), mask=channels < D)


@pytest.mark.parametrize("dim", (16, 64, 80, 96, 128, 256))
@pytest.mark.parametrize("warps", (1, 8))
def test_as_by_the_matrix(dim: int, warps: int, device: torch.device) -> None:
    """Each channel alone, and all together; what stands behind the last one does not matter."""
    rows = torch.cat([torch.eye(dim), torch.randn(3, dim, generator=torch.Generator().manual_seed(0))]).to(device)
    out = torch.empty_like(rows)
    _rotate[len(rows),](rows, out, D=dim, WIDTH=triton.next_power_of_2(dim), num_warps=warps)
    torch.testing.assert_close(out, rows @ hadamard(dim, device), rtol=1e-5, atol=1e-6)


def test_placing_a_query_reads_no_matrix() -> None:
    """For Hopper: nor is anything of the launch before read before its end."""
    floats = dict.fromkeys(("rows", "cos", "sin", "query_weight", "key_weight", "keys", "values"), "*bf16")
    types = floats | {"query": "*fp32", "rotated": "*fp32", "positions": "*i64", "start": "*i32", "epsilon": "fp32"}
    types |= {"count": "i32", "slots": "i32", "row_stride": "i32"}
    fixed = {"H": 32, "G": 8, "D": 128, "WIDTH": 128, "NORMED": False, "ROTATE": True, "PDL": True}
    code = ptx_of("engine.kernels.attention.rope_append._rope", types, fixed, warps=1)
    wait = code.index("griddepcontrol.wait")
    reads = [found.start() for found in re.finditer(r"ld\.global", code)]
    # Ahead: the tail's length and the position.
    assert len([at for at in reads if at < wait]) == 2 and len(reads) <= 16
    assert all(found.start() > wait for found in re.finditer(r"st\.global", code))


def test_merging_reads_no_matrix() -> None:
    """Where rotated pieces begin, and nothing else."""
    types = {"out": "*bf16", **dict.fromkeys(("lse", "outputs", "sums"), "*fp32"), "ranges": "*i32"}
    types |= {"count": "i32", "heads": "i32"}
    fixed = {"SHARE": 4, "D": 128, "WIDTH": 128, "BLOCK": 64, "ROTATE": True, "PDL": True}
    plain, turning = (
        ptx_of("engine.kernels.attention.reduce.merge", types, fixed | {"ROTATE": each}, warps=8)
        for each in (False, True)
    )
    assert turning.count("ld.global") == plain.count("ld.global") + 1
