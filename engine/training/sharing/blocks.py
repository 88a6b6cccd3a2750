"""Blocks of consecutive layers for every KV head, grown bottom-up by how alike the layers look (arXiv 2412.02252).

Stage 1, algorithm 1. Letters: L layers, G KV heads, N thresholds.
"""

import torch
from torch import Tensor

from engine.core.errors import CalibrationFailed

CRITERIA = ("block", "root", "previous")
"""What a layer must be like to join the block below it: every layer of the block, its lowest, or its highest."""

Roots = tuple[tuple[int, ...], ...]
"""`roots[layer][kv_head]`: the lowest layer of the block that holds the layer for that head."""


def strengths(similarity: Tensor, criterion: str = "block", excluded: int = 0) -> Tensor:
    """How well each layer fits into a block with a given root: (G, root, layer), from similarity (G, L, L).

    Minus infinity where a layer must not join: around the first `excluded` layers, which neither share nor are shared.
    Only root < layer has a meaning.
    """
    if criterion == "root":
        fit = similarity.clone()
    elif criterion == "previous":
        fit = similarity.diagonal(1, 1, 2).unsqueeze(1).repeat(1, similarity.shape[1], 1)
        fit = torch.nn.functional.pad(fit, (1, 0))
    elif criterion == "block":
        # From the layer below the joining one down to the root: the least similarity so far.
        below = torch.ones_like(similarity[0]).triu(1).bool()
        fit = similarity.masked_fill(~below, float("inf")).flip(1).cummin(1).values.flip(1)
    else:
        raise CalibrationFailed(f"{criterion!r} is no criterion; take {', '.join(CRITERIA)}")
    fit[:, :, 1 : excluded + 1] = float("-inf")
    return fit


def by_threshold(strength: Tensor, threshold: float) -> Roots:
    """Blocks whose layers all fit with at least the threshold; above 1, every layer is a block of its own."""
    roots: list[list[int]] = _grow(strength, torch.tensor([threshold], dtype=strength.dtype))[0].tolist()
    return tuple(map(tuple, roots))


def by_saving(strength: Tensor, saving: float) -> tuple[Roots, float]:
    """Blocks that leave out the share of all keys and values nearest to `saving`, and the threshold that gives them.

    One threshold serves all heads, so not every saving can be met. Blocks change only where the threshold passes one
    of the strengths, so all that can be had are tried. Raises CalibrationFailed where so much cannot be left out.
    """
    if not 0 < saving < 0.5:
        raise CalibrationFailed(f"sharing keys leaves out between 0 and 50 % of keys and values, not {saving:.0%}")
    heads, layers, _ = strength.shape
    above = torch.ones(layers, layers).triu(1).bool()
    found = strength[:, above]
    candidates = torch.tensor(sorted({2.0, *found[found.isfinite()].tolist()}, reverse=True), dtype=strength.dtype)
    roots = _grow(strength, candidates)
    own = torch.arange(layers)[:, None]
    savings = (roots != own).sum((1, 2)) / (2 * heads * layers)
    # Both are shares of whole layers; the tolerance is for numbers such as 0.35 that binary fractions cannot hold.
    if saving > float(savings.max()) + 1e-6:
        raise CalibrationFailed(
            f"blocks can leave out {100 * float(savings.max()):.1f} % of keys and values at most, "
            f"{100 * saving:.1f} % were asked for; take less, or exclude fewer layers"
        )
    # The first of equals: the highest threshold.
    best = int((savings - saving).abs().argmin())
    return tuple(map(tuple, roots[best].tolist())), float(candidates[best])


def _grow(strength: Tensor, thresholds: Tensor) -> Tensor:
    """Roots (N, L, G) for each threshold (N,): a layer joins the block below it if it fits, else it starts the next."""
    heads, layers, _ = strength.shape
    every = torch.arange(heads)
    root = torch.zeros(len(thresholds), heads, dtype=torch.long)
    rows = [root]
    for layer in range(1, layers):
        joins = strength[every, root, layer] >= thresholds[:, None]
        root = root.where(joins, torch.tensor(layer))
        rows.append(root)
    return torch.stack(rows, 1)
