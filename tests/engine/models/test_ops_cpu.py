"""Products by float16 weights: exact where they are taken, left alone where they are not, on other processors too."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from engine.models.ops_cpu import FEW_ROWS, RowOps, has_half_products

capable = pytest.mark.skipif(not has_half_products(), reason="needs FBGEMM and AVX2")


def linear(dtype: torch.dtype, bias: bool = False, rows: int = 100, columns: int = 72) -> nn.Linear:
    """Weights as a checkpoint in bfloat16 has them, loaded in some dtype."""
    torch.manual_seed(rows)
    made = nn.Linear(columns, rows, bias=bias).bfloat16().to(dtype)
    return made.requires_grad_(False)


def truth(x: Tensor, *modules: nn.Linear) -> Tensor:
    parts = [
        nn.functional.linear(x.double(), each.weight.double(), None if each.bias is None else each.bias.double())
        for each in modules
    ]
    return torch.cat(parts, 1)


@capable
@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("bias", [False, True])
def test_sums_are_those_of_float64(rows: int, bias: bool) -> None:
    """Nothing is rounded to float16 but the weights, which are exact in it: also inputs beyond its range."""
    ops, modules = RowOps(), (linear(torch.float32, bias), linear(torch.float32, bias, 31))
    weights = ops.take(*modules)
    assert weights[0].half is not None and "float16" in ops.name
    assert ops.spared_bytes == 2 * 131 * 72
    x = torch.randn(rows, 72) * torch.logspace(-6, 6, 72)
    wanted = truth(x, *modules)
    torch.testing.assert_close(
        ops.linear(x, weights).double(), wanted, rtol=1e-5, atol=1e-6 * float(wanted.abs().max())
    )


@capable
def test_a_row_is_the_same_alone_and_among_others() -> None:
    """Answers must not depend on how many tokens go through together."""
    ops = RowOps()
    weights = ops.take(linear(torch.float32, rows=576, columns=576))
    x = torch.randn(6, 576)
    together = ops.linear(x, weights)
    alone = torch.cat([ops.linear(row[None], weights) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@capable
def test_bfloat16_inputs_are_summed_in_float32() -> None:
    ops, module = RowOps(), linear(torch.bfloat16, rows=48)
    x = torch.randn(2, 72).bfloat16()
    assert torch.equal(ops.linear(x, ops.take(module)), truth(x, module).float().bfloat16())


@pytest.mark.parametrize("value", [1e5, float("inf"), float("nan"), 1 / 3], ids=str)
def test_a_weight_that_float16_does_not_hold_keeps_its_matrix(value: float) -> None:
    module = linear(torch.float32)
    module.weight[5, 7] = value
    ops = RowOps()
    (weight,) = ops.take(module)
    assert weight.half is None and ops.spared_bytes == 0 and "float16" not in ops.name
    x = torch.randn(1, 72)
    torch.testing.assert_close(ops.linear(x, [weight]), module(x), equal_nan=True)


@pytest.mark.parametrize("lacking", ["instructions", "library"])
def test_another_processor_goes_by_the_matrix_and_says_so(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacking == "instructions":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    else:
        monkeypatch.setattr(torch.backends, "quantized", SimpleNamespace(supported_engines=["qnnpack"]))
    ops, module = RowOps(), linear(torch.bfloat16)
    (weight,) = ops.take(module)
    assert weight.half is None and ops.name == "flat, one token by matrix-vector products"
    x = torch.randn(1, 72).bfloat16()
    torch.testing.assert_close(ops.linear(x, [weight]), module(x))
