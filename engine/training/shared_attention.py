"""SharedAttention: attention of one whole sequence under PoD's sharing (arXiv 2412.02252, stage 2), with gradients.

For token i, token j is near if j < sinks or i - j < recent, else far. Proximal tokens are met as usual; distant ones by
the keys of the layer's root, under the root's queries (mode A) or the layer's own (mode B), or by keys predicted from
the root's (mode linear), under the layer's own. Values are the layer's own. One softmax runs over both. Letters: T
tokens, H query heads, G key/value heads, D head size.

Sharing may act from some token on only: those before it read as the dense model does, and the ones behind it ask what
was read, of which the first `sinks` and the last `recent` tokens are near to all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from engine.kvcache.key_maps import KeyMaps, value_layers

Met = tuple[Tensor, Tensor, Tensor]
"""Query (H,T,D) that meets keys (G,T,D), and their values (G,T,D)."""

Distort = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(keys (G,T,D), values (G,T,D)) as distant tokens will be seen, such as after rounding; it must pass gradients on."""


_TUNED = (64, 128)
"""Head sizes for which PyTorch chooses FlexAttention's tiles by itself, in half precision."""
_SMALL_TILES = {
    **dict.fromkeys(("fwd_BLOCK_M", "fwd_BLOCK_N", "bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2"), 32),
    "num_stages": 1,
    "num_warps": 4,
}
"""Of all others, forward and backward: its guesses can need more shared memory than any card has."""


class Windows(Protocol):
    """Near and far attention under one softmax."""

    sinks: int
    recent: int

    def attend(self, proximal: Met, distant: Met, scale: float, first: int) -> Tensor:
        """Output (H,T - first,D) of the tokens from `first` on, which see proximal ones by `proximal` and distant ones
        by `distant`.
        """


class SharedAttention:
    """sdpa.KVContext of one forward over a whole sequence. `roots[layer][kv_head]` is of a SharingPlan; () is dense.

    Sharing acts from token `first` on. Gradients flow into the queries and keys of the roots, through every layer that
    uses them.
    """

    def __init__(
        self,
        roots: Sequence[Sequence[int]],
        mode: str,
        windows: Windows,
        distort: Distort | None = None,
        first: int = 0,
        maps: KeyMaps | None = None,
    ) -> None:
        self._roots = roots
        self._maps = maps
        self._mode = mode
        self._windows = windows
        self._distort = distort
        self._first = first
        self._queries: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Take a layer's query (H,T,D), keys and values (G,T,D) of all tokens; give the output (H,T,D)."""
        roots = self._roots[layer] if self._roots else ()
        if (self._first or query.shape[1]) <= self._windows.sinks + self._windows.recent:
            return dense(query, keys, values, scale)
        if any(root == layer for root in roots):
            self._queries[layer], self._keys[layer] = query, keys
        self._values[layer] = values
        if self._distort is None and all(root == layer for root in roots):
            return dense(query, keys, values, scale)
        far_query, far_keys, far_values = query, keys, values
        if self._maps is not None:
            far_keys = self._predicted(layer, self._maps)
        elif roots:
            far_keys = torch.stack([self._keys[root][group] for group, root in enumerate(roots)])
            if self._mode == "A":
                per_group = query.shape[0] // keys.shape[0]
                far_query = torch.cat(
                    [self._queries[root][group * per_group :][:per_group] for group, root in enumerate(roots)]
                )
        if self._distort is not None:
            far_keys, far_values = self._distort(far_keys, far_values)
        first = self._first
        proximal, distant = (query[:, first:], keys, values), (far_query[:, first:], far_keys, far_values)
        out = self._windows.attend(proximal, distant, scale, first)
        if not first:
            return out
        return torch.cat([dense(query[:, :first], keys[:, :first], values[:, :first], scale), out], 1)

    def _predicted(self, layer: int, maps: KeyMaps) -> Tensor:
        keys = self._keys[maps.roots[layer]]
        positions = torch.arange(keys.shape[1], device=keys.device)
        return maps.predict(layer, keys, [self._values[each] for each in value_layers(layer)], positions)


def select_kernel(device: torch.device, sinks: int, recent: int) -> Windows:
    """FlexAttention on a GPU, explicit masks elsewhere."""
    return FlexWindows(sinks, recent) if device.type == "cuda" else ExplicitWindows(sinks, recent)


def dense(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Plain causal attention: (H,T,D), (G,T,D), (G,T,D) to (H,T,D)."""
    q, k, v = (part[None] for part in _alike((query, keys, values)))
    out: Tensor = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    return out[0]


class ExplicitWindows:
    """The specification: every score at once, in float32 (float64 for float64 inputs). Needs memory of T * T."""

    def __init__(self, sinks: int, recent: int) -> None:
        self.sinks = sinks
        self.recent = recent

    def attend(self, proximal: Met, distant: Met, scale: float, first: int = 0) -> Tensor:
        """Output (H,T - first,D) of one masked softmax over near and distant scores."""
        seen, apart = self.masks(proximal[1].shape[1], proximal[0].device, first)
        scores = torch.where(seen, _scores(proximal, scale), _scores(distant, scale)).masked_fill(
            ~(seen | apart), -torch.inf
        )
        share = scores.softmax(-1)
        out = share * seen @ _spread(proximal[2], proximal) + share * apart @ _spread(distant[2], distant)
        return out.to(proximal[0].dtype)

    def masks(self, tokens: int, device: torch.device, first: int = 0) -> tuple[Tensor, Tensor]:
        """Which tokens are near and which are far: two (T - first,T) of bool, one row for each token that looks."""
        i, j = torch.arange(first, tokens, device=device)[:, None], torch.arange(tokens, device=device)
        close = (j < self.sinks) | (j >= first - self.recent if first else i - j < self.recent)
        return close & (j <= i), ~close


class FlexWindows:
    """FlexAttention over near and over distant tokens, merged by log-sum-exp: one softmax over both."""

    def __init__(self, sinks: int, recent: int, compiled: bool = True) -> None:
        self.sinks = sinks
        self.recent = recent
        # One program for each mask and shape; uncompiled it takes memory of T * T.
        flex: Any = flex_attention
        self._flex: Callable[..., Any] = torch.compile(flex, dynamic=False) if compiled else flex
        self._masks: dict[tuple[int, int, torch.device], tuple[BlockMask, BlockMask]] = {}

    def attend(self, proximal: Met, distant: Met, scale: float, first: int = 0) -> Tensor:
        """Output (H,T - first,D) of two masked calls."""
        masks = self._blocks(proximal[1].shape[1], first, proximal[0].device)
        (out, lse), (far_out, far_lse) = (
            self._masked(met, scale, mask) for met, mask in zip((proximal, distant), masks, strict=True)
        )
        # The first tokens have no far ones: their log-sum-exp is -inf, whose gradient would be no number.
        share = torch.sigmoid(lse - far_lse.clamp(min=-1e30))[..., None]
        return (share * out + (1 - share) * far_out).to(proximal[0].dtype)

    def _masked(self, met: Met, scale: float, mask: BlockMask) -> tuple[Tensor, Tensor]:
        query, keys, values = (part[None].contiguous() for part in _alike(met))
        tuned = query.shape[-1] in _TUNED and query.dtype.itemsize == 2
        out, aux = self._flex(
            query,
            keys,
            values,
            block_mask=mask,
            scale=scale,
            enable_gqa=True,
            kernel_options={} if tuned else _SMALL_TILES,
            return_aux=AuxRequest(lse=True),
        )
        return out[0], aux.lse[0]

    def _blocks(self, tokens: int, first: int, device: torch.device) -> tuple[BlockMask, BlockMask]:
        """The masks of near and distant tokens, made once for each length. Rows count from `first`."""
        sinks, recent = self.sinks, self.recent

        def proximal(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (j <= i + first) & ((j < sinks) | (j >= first - recent if first else i - j < recent))

        def distant(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return (j >= sinks) & (j < first - recent if first else i - j >= recent)

        key = (tokens, first, device)
        if key not in self._masks:
            near_blocks, far_blocks = (
                create_block_mask(mask, None, None, tokens - first, tokens, device) for mask in (proximal, distant)
            )
            self._masks[key] = near_blocks, far_blocks
        return self._masks[key]


def _alike(met: Met) -> Met:
    """Query and keys in the values' dtype: under autocast, rotary positions leave them wider."""
    query, keys, values = met
    return query.to(values.dtype), keys.to(values.dtype), values


def _spread(rows: Tensor, met: Met) -> Tensor:
    """Keys or values (G,T,D) for each query head: (H,T,D) in float32 or wider."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).repeat_interleave(len(met[0]) // len(rows), 0)


def _scores(met: Met, scale: float) -> Tensor:
    """Scaled scores (H,T,T)."""
    wide = torch.promote_types(met[0].dtype, torch.float32)
    return met[0].to(wide) @ _spread(met[1], met).transpose(1, 2) * scale
