"""SharingContext: a section read with PoD's sharing already in force, as the paper's prefill does.

Otherwise keys are dropped once reading is done, which leaves the values exact; a model that was adapted to sharing
expects it while it reads, too.
"""

import torch
from torch import Tensor

from engine.attention.sdpa import SegmentAttention
from engine.core.lse import merge
from engine.kvcache.layout import Layout
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context


class SharingContext(Context):
    """For token i, token j is near if j < sinks or i - j < recent, else far: it is met by the keys of the block's root.

    In mode A the root's queries meet them, in mode B the layer's own. Values are always the layer's own.
    """

    def __init__(self, layout: Layout, suffix: SuffixCache, attention: SegmentAttention) -> None:
        super().__init__((), suffix, attention)
        self._layout = layout

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend everything read so far and the new tokens; keep the new keys and values in the tail."""
        self._queries[layer] = query
        roots, recipe = self._layout.roots[layer], self._layout.recipe
        if all(root == layer for root in roots):
            return super().attend(layer, query, keys, values, scale)
        self.suffix.append(layer, keys, values)
        start, stop = self.suffix.length, self.suffix.length + query.shape[1]
        # Three runs of tokens: near to every query, far from every query, and those where it depends.
        lead = min(recipe.sinks, start)
        band = max(lead, start - recipe.recent + 1)
        own, seen = self.suffix.keys[layer, :, :stop], self.suffix.values[layer, :, :stop]
        heads = len(query) // len(own)
        rooted = torch.stack([self.suffix.keys[root, group, :stop] for group, root in enumerate(roots)])
        asking = query
        if askers := recipe.sharing.asking(roots):
            asking = torch.cat(
                [self._queries[root][group * heads : (group + 1) * heads] for group, root in enumerate(askers)]
            )
        parts = []
        if lead:
            parts.append(self.attention(query, own[:, :lead], seen[:, :lead], scale, False))
        if band > lead:
            parts.append(self.attention(asking, rooted[:, lead:band], seen[:, lead:band], scale, False))
        proximal = self._proximal(start, stop, band)
        logits = torch.where(proximal, _scores(query, own[:, band:], scale), _scores(asking, rooted[:, band:], scale))
        ahead = torch.arange(band, stop, device=query.device) > torch.arange(start, stop, device=query.device)[:, None]
        logits = logits.masked_fill(ahead, -torch.inf)
        lse = logits.logsumexp(-1)
        mixed = torch.exp(logits - lse[..., None]) @ seen[:, band:].repeat_interleave(heads, 0).to(logits.dtype)
        return merge([*parts, (mixed.to(query.dtype), lse)])[0]

    def _proximal(self, start: int, stop: int, band: int) -> Tensor:
        """Which tokens band..stop are near to tokens start..stop: (Q, stop - band) of bool."""
        tokens = torch.arange(band, stop, device=self.suffix.keys.device)
        queries = torch.arange(start, stop, device=self.suffix.keys.device)[:, None]
        return (tokens < self._layout.recipe.sinks) | (queries - tokens < self._layout.recipe.recent)


def _scores(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Logits (H, Q, T) in float32, or in float64 for such inputs."""
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.to(wide) @ keys.repeat_interleave(len(query) // len(keys), 0).to(wide).transpose(1, 2) * scale
