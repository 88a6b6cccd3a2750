"""Rounding: distant keys and values as they will be read back from few bits, for a training that shall live with that.

Gradients pass as if nothing had been rounded (the straight-through estimator, arXiv 1308.3432).
"""

import torch
from torch import Tensor

from engine.core.quant import dequantize, quantize, rotated
from engine.kvcache.recipe import Precision


class Rounding:
    """A `shared_attention.Distort` of bits and rotation; groups of tokens start at the first token."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision

    def __call__(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (G,T,D) after rounding."""
        both = zip((keys, values), self._precision.parts, strict=True)
        rounded_keys, rounded_values = (self._rounded(rows, bits, per) for rows, (_, bits, per) in both)
        return rounded_keys, rounded_values

    def _rounded(self, rows: Tensor, bits: int, per: str) -> Tensor:
        with torch.no_grad():
            rotation = self._precision.rotation(rows.shape[-1], rows.device)
            wide = rotated(rows.float(), rotation)
            read = torch.stack([dequantize(quantize(head, bits, per), torch.float32) for head in wide])
            error = rotated(read, rotation) - rows.float()
        return rows + error.to(rows.dtype)
