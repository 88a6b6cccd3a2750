"""Memories of documents that nobody read: pods and caches of random numbers, to time decoding at any length."""

from typing import Any

import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.models.loader import Model


def random_pod(model: Model, layout: Layout, num_tokens: int, seed: int = 0) -> Pod | QuantizedPod:
    """A pod of the layout, filled and compressed layer by layer; layers that share keys are not foreseen."""
    shape = model.shape
    generator = torch.Generator(model.device).manual_seed(seed)
    positions = torch.arange(num_tokens, device=model.device)
    if layout.recipe.exact:
        keys, values = (shape.empty(num_tokens, model.device) for _ in range(2))
        for layer in range(shape.layers):
            keys[layer], values[layer] = (_rows(model, num_tokens, generator) for _ in range(2))
        return Pod(keys, values, positions, num_tokens)
    alone = Layout(layout.recipe, ((0,) * shape.kv_heads,))
    layers = []
    for _ in range(shape.layers):
        keys, values = (_rows(model, num_tokens, generator)[None] for _ in range(2))
        exact = Pod(keys, values, positions, num_tokens)
        scores = None
        if layout.recipe.selection.drops:
            random = torch.rand(1, shape.kv_heads, num_tokens, generator=generator, device=model.device)
            scores = Scores(num_tokens, random)
        layers.append(pack_pod(exact, alone, scores))
    proximal = [each.proximal for each in layers]
    keys, values = torch.cat([each.keys for each in proximal]), torch.cat([each.values for each in proximal])
    exact = Pod(keys, values, proximal[0].positions, num_tokens)
    return QuantizedPod(layout, exact, tuple(each.distant[0] for each in layers), num_tokens)


def fill(cache: Any, model: Model, num_tokens: int, seed: int = 0) -> None:
    """Put random keys and values of so many tokens into a cache of transformers, layer by layer."""
    generator = torch.Generator(model.device).manual_seed(seed)
    for layer in range(model.shape.layers):
        keys, values = (_rows(model, num_tokens, generator)[None] for _ in range(2))
        cache.update(keys, values, layer)


def _rows(model: Model, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Random keys or values (G, T, D) of one layer."""
    size = (model.shape.kv_heads, num_tokens, model.shape.head_dim)
    return torch.randn(size, generator=generator, device=model.device, dtype=model.shape.dtype)
