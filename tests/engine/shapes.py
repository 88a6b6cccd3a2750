"""Shapes of models whose layers are all alike, blocks of their pods, and whether a pod is whole."""

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape, LayerShape
from engine.kvcache.exact import Pod, PodBlock, leaving
from engine.kvcache.quantized import QuantizedPod


def uniform(layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> KVShape:
    return KVShape((LayerShape(kv_heads, head_dim),) * layers, dtype)


def to_block(keys: Tensor, values: Tensor, start: int) -> PodBlock:
    """Keys and values (L, G, C, D) of tokens start..start+C as plain bytes."""
    return leaving([(keys, values)], start)()


def check(pod: Pod | QuantizedPod) -> None:
    """Raise PodMismatch where the parts do not belong together."""
    if isinstance(pod, Pod):
        slots = pod.keys.shape[2]
        if pod.keys.shape != pod.values.shape or pod.positions.shape != (slots,):
            raise PodMismatch(f"keys {tuple(pod.keys.shape)}, values {tuple(pod.values.shape)}, slots {slots}")
        if slots and (bool((pod.positions.diff() <= 0).any()) or int(pod.positions[-1]) >= pod.num_tokens):
            raise PodMismatch("positions are not ascending within the section")
        return
    check(pod.proximal)
    heads = pod.proximal.keys.shape[1]
    for layer, distant in enumerate(pod.distant):
        if not len(distant.keys) == len(distant.values) == heads:
            raise PodMismatch(f"layer {layer} has keys of {len(distant.keys)} heads, values of {len(distant.values)}")
        for head in range(heads):
            rows, keys = len(pod.distant_positions(layer, head)), distant.keys[head]
            stores = pod.layout.stores_keys(layer, head)
            if len(distant.values[head].codes) != rows or (keys is not None) != stores:
                raise PodMismatch(f"layer {layer}, head {head}: the parts are not those of {pod.layout.recipe}")
            if keys is not None and len(keys.codes) != rows:
                raise PodMismatch(f"layer {layer}, head {head}: {len(keys.codes)} keys for {rows} slots")
