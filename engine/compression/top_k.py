"""Top-k: from scores to the distant slots that stay, per layer and KV head."""

import torch
from torch import Tensor

from engine.kvcache.layout import Layout


def top_k(scores: Tensor, layout: Layout, pooled: bool) -> Tensor:
    """Which of F distant slots stay, as (L, G, F) of bool, from their scores (L, G, F).

    `keep` of all slots stay: over all layers and heads where scores are pooled, else of each head. Layers that share
    keys keep the same slots, each worth what it is worth to the layer that needs it most; then at most that many stay.
    """
    layers, heads, distant = scores.shape
    roots = torch.tensor(layout.roots, device=scores.device)  # (L, G)
    blocks = roots * heads + torch.arange(heads, device=scores.device)
    best = torch.full((layers * heads, distant), -torch.inf, device=scores.device)
    best = best.scatter_reduce(0, blocks.flatten()[:, None].expand(-1, distant), scores.flatten(0, 1).float(), "amax")
    if not pooled:
        count = layout.recipe.selection.slots(distant)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(1, best.topk(count, 1).indices, True)
        return kept[blocks.flatten()].view(layers, heads, distant)
    sizes = torch.bincount(blocks.flatten(), minlength=layers * heads)
    order = best.flatten().argsort(descending=True, stable=True)
    spent = sizes.repeat_interleave(distant)[order].cumsum(0)
    kept = torch.zeros(layers * heads * distant, dtype=torch.bool, device=scores.device)
    kept[order[spent <= layout.recipe.selection.slots(layers * heads * distant)]] = True
    return kept.view(-1, distant)[blocks.flatten()].view(layers, heads, distant)
