"""Quantize, dequantize and rotate keys and values of all KV heads of a layer; as a module, a quantized_store.Codec."""

from engine.kernels.quant.dequantize import dequantize_into
from engine.kernels.quant.quantize import quantize_into
