"""Shapes of models whose layers are all alike, and blocks of their pods."""

import torch
from torch import Tensor

from engine.core.kv_shape import KVShape, LayerShape
from engine.kvcache.exact import PodBlock, leaving


def uniform(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> KVShape:
    return KVShape((LayerShape(kv_heads, head_dim),) * layers, dtype)


def to_block(keys: Tensor, values: Tensor, start: int) -> PodBlock:
    """Keys and values (L, G, C, D) of tokens start..start+C as plain bytes."""
    return leaving([(keys, values)], start)()
