"""Warm-up: answers over a long section that holds nothing, so that kernels are compiled and steps captured before the
first real one.

What a captured step depends on hardly changes from one long section to another; see engine.runtime.kv_table.
"""

import torch

from engine.core.kv_shape import KVShape
from engine.core.quant import Packed, pack, scale_shape
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import DistantLayer, QuantizedPod
from engine.runtime.generate import generate
from engine.runtime.graph_runner import BUCKETS
from engine.runtime.runner import Runner


def warm_up(runner: Runner, layout: Layout, num_tokens: int) -> None:
    """Answer questions of every bucket's length over a section of so many tokens; nothing where no steps are captured.

    Raises WindowExceeded where the section leaves no room for a question.
    """
    if runner.graph_runner is None or layout.recipe.sharing.mode:
        return
    pod = zero_pod(runner.model.shape, layout, num_tokens, runner.model.device)
    for bucket in BUCKETS[1:]:
        list(generate(runner, [pod], [0] * bucket, SamplingParams(max_tokens=2)))


def zero_pod(shape: KVShape, layout: Layout, num_tokens: int, device: torch.device) -> Pod | QuantizedPod:
    """A pod of zeros in which all layers and KV heads look at the memory of one; keys that layers share have none."""
    recipe, dim = layout.recipe, shape.head_dim
    positions = list(range(num_tokens)) if recipe.exact else layout.proximal(num_tokens)
    row = torch.zeros(len(positions), dim, dtype=shape.dtype, device=device)
    rows = row.expand(shape.layers, shape.kv_heads, *row.shape)
    proximal = Pod(rows, rows, torch.tensor(positions, dtype=torch.long, device=device), num_tokens)
    if recipe.exact:
        return proximal
    distant = num_tokens - len(positions)
    count = recipe.selection.slots(distant)

    def packed(bits: int, per: str) -> tuple[Packed, ...]:
        dtype, width = (shape.dtype, dim) if bits == 16 else (torch.uint8, dim * bits // 8)
        codes = torch.zeros(count, width, dtype=dtype, device=device)
        scales = torch.zeros(scale_shape(count, dim, per) if bits < 16 else (0,), dtype=torch.float16, device=device)
        return (Packed(bits, per, codes, scales, scales),) * shape.kv_heads

    kept = None
    if recipe.selection.drops:
        bits = torch.zeros(1, distant + -distant % 8, dtype=torch.uint8, device=device)
        bits[:, :count] = 1
        kept = pack(bits, 1).expand(shape.kv_heads, -1)
    keys, values = (packed(bits, per) for _, bits, per in recipe.precision.parts)
    layer = DistantLayer(keys, values, kept)
    return QuantizedPod(layout, proximal, (layer,) * shape.layers, num_tokens)
