"""Weights as kernels read them: views of real layers, equal to what bitsandbytes makes of the same bytes."""

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from engine.core.errors import ModelUnsupported
from engine.kernels.linear.weights import Nf4Weight, nf4_weight, weight_of
from tests.engine.kernels import reference_linear
from tests.engine.kernels.layers import matrix

CPU = torch.device("cpu")


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(3, 64), (37, 448), (130, 1152)])
def test_bytes_mean_what_they_mean_to_bitsandbytes(rows: int, columns: int, nested: bool) -> None:
    packed, state = quantize_4bit(matrix(rows, columns, 0, CPU), quant_type="nf4", compress_statistics=nested)
    ours = reference_linear.dequantized(nf4_weight(packed, state))
    torch.testing.assert_close(ours, dequantize_4bit(packed, state), rtol=1e-6, atol=1e-7)


def test_a_quantized_layer_is_read_where_it_lies() -> None:
    packed, state = quantize_4bit(matrix(16, 128, 0, CPU), quant_type="nf4", compress_statistics=True)
    layer = bitsandbytes.nn.Linear4bit(128, 16, quant_type="nf4")
    layer.weight = bitsandbytes.nn.Params4bit(
        packed, requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True
    )
    weight = weight_of(layer)
    assert isinstance(weight, Nf4Weight)
    assert (weight.rows, weight.columns) == (16, 128)
    assert weight.words.data_ptr() == packed.data_ptr() and weight.scales.data_ptr() == state.absmax.data_ptr()
    assert weight.bias is not None and weight.bias.data_ptr() == layer.bias.data_ptr()
    assert weight.nbytes == 16 * 128 // 2 + 16 * 128 // 64 + 4


def test_a_dense_layer_is_not_for_kernels() -> None:
    assert weight_of(torch.nn.Linear(12, 5)) is None


@pytest.mark.parametrize(("quant_type", "blocksize", "columns"), [("fp4", 64, 128), ("nf4", 128, 128), ("nf4", 64, 96)])
def test_other_formats_are_refused(quant_type: str, blocksize: int, columns: int) -> None:
    packed, state = quantize_4bit(matrix(16, columns, 0, CPU), blocksize=blocksize, quant_type=quant_type)
    with pytest.raises(ModelUnsupported, match="another kind"):
        nf4_weight(packed, state)


def test_a_weight_that_addresses_cannot_reach_is_refused() -> None:
    _, state = quantize_4bit(matrix(16, 128, 0, CPU), quant_type="nf4")
    with pytest.raises(ModelUnsupported, match="too large for kernels"):
        nf4_weight(torch.empty(2**33, dtype=torch.uint8, device="meta"), state)
