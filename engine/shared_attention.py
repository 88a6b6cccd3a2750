"""Attention of a whole sequence with PoD's sharing, through which gradients flow (arXiv 2412.02252, stage 2).

Token j is near to token i if j < sinks or i - j < recent, else far. Near tokens are met by a layer's own query and key,
far ones by the root's key, under the root's query (mode A) or the layer's own (mode B); values are the layer's own. One
softmax over both equals two masked calls merged by their log-sum-exp.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from engine.layout import Layout

Distort = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What far keys and values (G, T, D) become before they are met: the rest of a recipe, such as fewer bits."""


class SharedAttention:
    """One forward over a sequence; implements attention.Memory without remembering anything afterwards.

    Without a layout it is dense attention. On a GPU FlexAttention does the work, elsewhere an explicit softmax.
    """

    def __init__(self, layout: Layout | None, distort: Distort | None = None) -> None:
        self._layout = layout
        self._distort = distort
        self._queries: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Output (H, T, D) for a layer's queries (H, T, D), keys and values (G, T, D) of a whole sequence."""
        layout = self._layout
        # Under autocast, rotary positions leave queries and keys wider than values.
        query, keys = query.to(values.dtype), keys.to(values.dtype)
        self._queries[layer], self._keys[layer] = query, keys
        if layout is None or (self._distort is None and all(root == layer for root in layout.roots[layer])):
            return torch.nn.functional.scaled_dot_product_attention(
                query[None], keys[None], values[None], is_causal=True, scale=scale, enable_gqa=True
            )[0]
        heads, roots = len(query) // len(keys), layout.roots[layer]
        asking, rooted = query, torch.stack([self._keys[root][group] for group, root in enumerate(roots)])
        if layout.recipe.mode == "A":
            asking = torch.cat(
                [self._queries[root][group * heads : (group + 1) * heads] for group, root in enumerate(roots)]
            )
        seen = values
        if self._distort is not None:
            rooted, seen = self._distort(rooted, values)
        masks = layout.recipe.sinks, layout.recipe.recent
        attend = _flex if query.device.type == "cuda" else explicit
        out: Tensor = attend((query, keys, values), (asking, rooted, seen), masks, scale)
        return out


Parts = tuple[Tensor, Tensor, Tensor]


def explicit(near: Parts, far: Parts, masks: tuple[int, int], scale: float) -> Tensor:
    """The specification: one softmax in float32 (float64 for such inputs) over logits of near and far tokens."""
    query, tokens = near[0], near[0].shape[1]
    wide = torch.promote_types(query.dtype, torch.float32)
    groups = len(query) // len(near[1])

    def scores(asking: Tensor, keys: Tensor) -> Tensor:
        return asking.to(wide) @ keys.to(wide).repeat_interleave(groups, 0).transpose(1, 2) * scale

    position = torch.arange(tokens, device=query.device)
    is_near = (position < masks[0]) | (position[:, None] - position < masks[1])
    logits = torch.where(is_near, scores(near[0], near[1]), scores(far[0], far[1]))
    share = logits.masked_fill(position > position[:, None], -torch.inf).softmax(-1)
    met = (share * is_near) @ near[2].to(wide).repeat_interleave(groups, 0)
    met = met + (share * ~is_near) @ far[2].to(wide).repeat_interleave(groups, 0)
    return met.to(query.dtype)


def _flex(near: Parts, far: Parts, masks: tuple[int, int], scale: float) -> Tensor:
    near_mask, far_mask = _masks(near[0].shape[1], *masks, near[0].device)
    parts = []
    for (query, keys, values), mask in ((near, near_mask), (far, far_mask)):
        out, lse = _compiled()(
            query[None].contiguous(), keys[None].contiguous(), values[None].contiguous(), mask, scale
        )
        parts.append((out[0], lse[0]))
    (out_near, lse_near), (out_far, lse_far) = parts
    # A token without far ones has a log-sum-exp of minus infinity there, whose gradient would be no number.
    gate: Tensor = torch.sigmoid(lse_near.float() - lse_far.float().clamp_min(-1e30))[..., None]
    merged: Tensor = gate * out_near.float() + (1 - gate) * out_far.float()
    return merged.to(near[0].dtype)


@lru_cache(maxsize=1)
def _compiled() -> Any:
    def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Any, scale: float) -> Any:
        return flex_attention(query, keys, values, block_mask=mask, scale=scale, enable_gqa=True, return_lse=True)

    return torch.compile(attend, dynamic=False)


@lru_cache(maxsize=4)
def _masks(tokens: int, sinks: int, recent: int, device: torch.device) -> tuple[Any, Any]:
    """Block masks of near and of far tokens."""

    def near(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & ((j < sinks) | (i - j < recent))

    def far(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j >= sinks) & (i - j >= recent)

    made = (create_block_mask(each, None, None, tokens, tokens, device=str(device)) for each in (near, far))
    return next(made), next(made)
