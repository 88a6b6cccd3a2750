"""The kernels that quantize and dequantize all KV heads of a layer, as one module: a packed_store.Codec."""

from engine.kernels.quant.dequantize import dequantize_into
from engine.kernels.quant.quantize import quantize_into

__all__ = ["dequantize_into", "quantize_into"]
