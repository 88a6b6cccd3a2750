"""Selection: from scores to the far slots that stay, per layer and KV head."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.compression.policies.base import Policy
from engine.compression.policies.key_norm import KeyNorm
from engine.compression.policies.random import RandomChoice
from engine.compression.policies.reread import Reread
from engine.compression.policies.streaming import Streaming
from engine.kvcache.layout import Layout

POLICIES: Mapping[str, Policy] = {
    "reread": Reread(),
    "norm": KeyNorm(),
    "streaming": Streaming(),
    "random": RandomChoice(),
}
"""By their names in a recipe."""


def choose(scores: Tensor, layout: Layout, pooled: bool) -> Tensor:
    """Which of F far slots stay, as (L, G, F) of bool, from their scores (L, G, F).

    `keep` of all slots stay: over all layers and heads where scores are pooled, else of each head. Layers that share
    keys keep the same slots, each worth what it is worth to the layer that needs it most; then at most that many stay.
    """
    layers, heads, far = scores.shape
    roots = torch.tensor(layout.roots, device=scores.device)  # (L, G)
    blocks = roots * heads + torch.arange(heads, device=scores.device)
    best = torch.full((layers * heads, far), -torch.inf, device=scores.device)
    best = best.scatter_reduce(0, blocks.flatten()[:, None].expand(-1, far), scores.flatten(0, 1).float(), "amax")
    if not pooled:
        count = round(layout.recipe.keep * far)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(1, best.topk(count, 1).indices, True)
        return kept[blocks.flatten()].view(layers, heads, far)
    sizes = torch.bincount(blocks.flatten(), minlength=layers * heads)
    order = best.flatten().argsort(descending=True, stable=True)
    spent = sizes.repeat_interleave(far)[order].cumsum(0)
    kept = torch.zeros(layers * heads * far, dtype=torch.bool, device=scores.device)
    kept[order[spent <= round(layout.recipe.keep * layers * heads * far)]] = True
    return kept.view(-1, far)[blocks.flatten()].view(layers, heads, far)
