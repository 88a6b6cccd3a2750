"""Weights of linear layers as the kernels read them: views of what a layer holds, never a copy.

NF4 as bitsandbytes stores it (QLoRA, arXiv 2305.14314): 64 consecutive weights share a scale, two weights share a byte,
the first in its high half; with double quantization the scales are bytes too, 256 of them to a scale of their own.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import ModelUnsupported

BLOCK = 64
"""Weights that share a scale."""
NEST = 256
"""Scales that share a scale, where they are quantized too."""
MOST_NUMBERS = 2**31 - 1
"""Or words, of one weight: kernels count addresses in 32 bits."""


@dataclass(frozen=True)
class Nf4Weight:
    """A matrix (N, K) in four bits a weight: `table[code] * scale`, the scale of each block of 64 along K.

    `words` (N * K / 8,) int32: eight codes each, in the order that bitsandbytes stores them. `table` (16,) float32.
    `scales` (N * K / 64,): float32, or bytes that stand for `nest_table[byte] * nest_scales[block // 256] + offset`.
    """

    rows: int
    columns: int
    words: Tensor
    table: Tensor
    scales: Tensor
    nest_table: Tensor | None
    nest_scales: Tensor | None
    offset: Tensor | None
    bias: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads: codes and scales."""
        nest = 0 if self.nest_scales is None else self.nest_scales.nbytes
        return self.words.nbytes + self.scales.nbytes + nest


def weight_of(module: torch.nn.Module) -> Nf4Weight | None:
    """The weight of a bitsandbytes `Linear4bit`, of which nothing is copied; None for one that is not quantized.

    Raises ModelUnsupported for another 4-bit format, for rows that are no whole number of blocks, and for a weight too
    large for kernels.
    """
    weight: Any = module.weight
    bias: Any = module.bias
    state = getattr(weight, "quant_state", None)
    return None if state is None else nf4_weight(weight.data, state, bias)


def nf4_weight(packed: Tensor, state: Any, bias: Tensor | None = None) -> Nf4Weight:
    """A view of bitsandbytes' packed bytes and their `QuantState`.

    Raises ModelUnsupported where they are not NF4 in blocks of 64 that lie within a row.
    """
    rows, columns = state.shape
    nest = state.state2 if state.nested else None
    if (
        state.quant_type != "nf4"
        or state.blocksize != BLOCK
        or columns % BLOCK
        or (nest is not None and nest.blocksize != NEST)
        # bitsandbytes may turn the bytes round for a processor; this is not the format that kernels read.
        or getattr(state, "packing_format_for_cpu", False)
    ):
        raise ModelUnsupported(
            f"4-bit weights of another kind: {state.quant_type}, {state.blocksize} a block, {columns} a row"
        )
    if packed.nbytes // 4 > MOST_NUMBERS:
        raise ModelUnsupported(f"a weight of {packed.nbytes // 4:,} words is too large for kernels: {MOST_NUMBERS:,}")
    return Nf4Weight(
        rows=rows,
        columns=columns,
        words=packed.view(torch.uint8).reshape(-1).view(torch.int32),
        table=state.code,
        scales=state.absmax,
        nest_table=None if nest is None else nest.code,
        nest_scales=None if nest is None else nest.absmax,
        offset=None if nest is None else state.offset,
        bias=None if bias is None else bias.data,
    )
