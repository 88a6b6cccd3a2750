"""Quantize, dequantize and rotate keys and values."""
