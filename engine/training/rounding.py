"""Rounding: distant keys and values as they will be read back from few bits, for a training that shall live with that.

Gradients pass as if nothing had been rounded (the straight-through estimator, arXiv 1308.3432).
"""

import torch
from torch import Tensor

from engine.core.quant import dequantize, hadamard, quantize
from engine.kvcache.recipe import Recipe


class Rounding:
    """A `shared_attention.Distort` of a recipe's bits and rotation; groups of tokens start at the first token."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (G,T,D) after rounding."""
        return (
            self._rounded(keys, self._recipe.key_bits, "channel"),
            self._rounded(values, self._recipe.value_bits, "token"),
        )

    def _rounded(self, rows: Tensor, bits: int, per: str) -> Tensor:
        with torch.no_grad():
            rotation = hadamard(rows.shape[-1], rows.device)
            wide = rows.float() @ rotation if self._recipe.rotate else rows
            read = torch.stack([dequantize(quantize(head, bits, per), torch.float32) for head in wide])
            error = (read @ rotation if self._recipe.rotate else read) - rows.float()
        return rows + error.to(rows.dtype)
