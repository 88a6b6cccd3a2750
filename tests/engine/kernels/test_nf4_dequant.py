"""NF4 weights as one dense matrix: the numbers of bitsandbytes' own unpacking, and of the specification."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from engine.kernels.linear import nf4_dequant
from engine.kernels.linear.weights import nf4_weight
from tests.engine.kernels import reference_linear
from tests.engine.kernels.layers import matrix as random_matrix
from tests.engine.kernels.layers import nf4


@pytest.mark.parametrize("nested", (True, False))
@pytest.mark.parametrize(("sizes", "columns"), (([1], 64), ([37], 448), ([40, 17, 9], 1152), ([33, 300], 576)))
def test_weights_below_each_other(nested: bool, sizes: list[int], columns: int, device: torch.device) -> None:
    weights = [nf4(size, columns, device, nested=nested, seed=seed) for seed, size in enumerate(sizes)]
    out = nf4_dequant.matrix_of(weights, torch.empty(0, device=device))
    wanted = torch.cat([reference_linear.dequantized(each) for each in weights])
    # On a GPU the sum of a scale may be rounded once or twice.
    torch.testing.assert_close(out, wanted, rtol=1e-6, atol=1e-7)
    assert nf4_dequant.bias_of(weights, out) is None


@pytest.mark.parametrize("nested", (True, False))
def test_the_numbers_are_those_of_bitsandbytes(nested: bool, device: torch.device) -> None:
    # The interpreter cuts numbers off where bfloat16 is rounded.
    dense = random_matrix(96, 704, 5, device).to(torch.float16 if device.type == "cpu" else torch.bfloat16)
    packed, state = quantize_4bit(dense, blocksize=64, quant_type="nf4", compress_statistics=nested)
    ours = nf4_dequant.matrix_of([nf4_weight(packed, state)], dense)
    theirs = dequantize_4bit(packed, state)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=2.0**-7, atol=0)
    assert (ours == theirs).float().mean() > 0.99


def test_biases_stand_side_by_side(device: torch.device) -> None:
    weights = [nf4(size, 64, device, bias=size > 3, seed=size) for size in (5, 3, 4)]
    bias = nf4_dequant.bias_of(weights, torch.empty(0, device=device))
    first, _, last = (each.bias for each in weights)
    assert bias is not None and first is not None and last is not None
    assert torch.equal(bias, torch.cat([first, torch.zeros(3, device=device), last]))
