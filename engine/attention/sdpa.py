"""Attention over frozen pods and a growing tail, as one function registered with transformers.

Each segment is attended on its own and the results are merged by their log-sum-exp, which equals one softmax over all
of them: the merge of split-KV decoding (flash decoding). Letters: H query heads, G key/value heads, D head size,
Q new tokens, T tokens of a segment.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from engine.attention import cudnn
from engine.core.errors import ModelUnsupported
from engine.core.kv_shape import KVShape, LayerShape
from engine.core.lse import AttentionState, merge, reference
from engine.core.rope import HeadNorms, Rotary

NAME = "docpod"
_HARMLESS = frozenset(
    {"position_ids", "dropout", "use_cache", "logits_to_keep", "output_attentions", "output_router_logits"}
)
"""What transformers also hands to attention, and changes nothing of it where no model learns."""
_FLASH_CHANNELS = 256
_QUERIES, _KEYS = 512, 4096
"""Whose logits are written out at once where no flash kernel serves."""

SegmentAttention = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]
"""(query (H,Q,D), keys (G,T,D), values (G,T,D), scale, causal) -> output (H,Q,D), log-sum-exp (H,Q) in float32.

`causal` needs T >= Q: the queries are the last Q tokens, and each sees what stands up to itself. Otherwise every query
sees the whole segment.
"""


class KVContext(Protocol):
    """What one model call attends to, and where its own keys and values go."""

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Take the new tokens' query (H,Q,D), keys and values (G,Q,D) of a layer; give the output (H,Q,D)."""


@runtime_checkable
class ShapedKVContext(KVContext, Protocol):
    """A memory of layers that need not be plain, which may also ask with the last of the new tokens alone."""

    def expect(self, layer: int, asked: LayerShape, sinks: Tensor | None) -> int:
        """Take note of a layer's learned logits (H,), if it has any; its number among the layers that attend.

        Raises ModelUnsupported where it is asked for other attention than its shape says."""


@runtime_checkable
class FusedKVContext(KVContext, Protocol):
    """A memory that norms the heads and gives them rotary positions itself, on the way to their places."""

    def attend_fused(self, layer: int, rows: Tensor, rotary: Rotary, norms: HeadNorms | None, scale: float) -> Tensor:
        """Take a layer's rows (Q, (H + 2 G) * D): queries, keys, values without positions; give the output (H,Q,D)."""


def register() -> None:
    """Make `docpod` an attention implementation of transformers. Masks are ours: none is built there."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    kv_context: KVContext,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature: (1,H,Q,D) and (1,G,Q,D) in, (1,Q,H,D) out.

    Raises ModelUnsupported for whatever else a model asks of attention, than to leave it out.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    asked = LayerShape(key.shape[1], key.shape[3], sliding_window, softcap, s_aux is not None)
    strange = sorted(name for name, value in kwargs.items() if value is not None and name not in _HARMLESS)
    if strange or is_causal is False or key.shape != value.shape:
        raise ModelUnsupported(
            f"{type(module).__name__} attends in a way that is not known here: "
            f"{', '.join(strange) or f'causal {is_causal}, keys {[*key.shape]}, values {[*value.shape]}'}"
        )
    if isinstance(kv_context, ShapedKVContext):
        layer = kv_context.expect(layer, asked, s_aux)
    elif KVShape((asked,), key.dtype).peculiarity:
        raise ModelUnsupported(f"{type(module).__name__} is no plain attention, and only that is known here: {asked}")
    out = kv_context.attend(layer, query[0], key[0], value[0], scaling)
    return out.transpose(0, 1)[None].contiguous(), None


def fused(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """PyTorch's flash attention, which also returns the log-sum-exp; the query heads of a group share one pass."""
    heads, queries, dim = query.shape
    groups = heads // keys.shape[0]
    on_gpu = query.device.type != "cpu"
    past = keys.shape[1] - queries
    # Flash attention on a GPU takes heads up to here, and the memory-efficient kernel any.
    wide = on_gpu and dim > _FLASH_CHANNELS
    alone = wide or not on_gpu
    if causal and past and alone:
        # The mask of these is aligned to the first token of both, so the tokens before stand apart.
        before = fused(query, keys[:, :past], values[:, :past], scale, False)
        return merge([before, fused(query, keys[:, past:], values[:, past:], scale, True)])
    if not causal:
        query = query.reshape(keys.shape[0], groups * queries, dim)
    elif alone:
        keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
    q, k, v = query[None], keys[None], values[None]
    if wide:
        out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(
            q, k, v, None, True, 0.0, causal, scale=scale
        )[:2]
        # It fills up to a multiple of 32 queries.
        lse = lse[:, :, : q.shape[2]]
    elif on_gpu:
        # This kernel aligns its mask to the last tokens, and takes a group's heads over the same keys.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)[:2]
    else:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    return out[0].reshape(heads, queries, dim), lse[0].reshape(heads, queries).float()


def chunked(query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """`fused`, but cuDNN's kernel for a long chunk."""
    if not cudnn.suits(query):
        return fused(query, keys, values, scale, causal)
    return merge(cudnn.parts(query, keys, values, scale, causal, fused))


def in_pieces(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, causal: bool, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """The specification, of which few logits are written out at once; for soft caps, which no flash kernel here has."""
    past, states = keys.shape[1] - query.shape[1], []
    for start in range(0, query.shape[1], _QUERIES):
        asking = query[:, start : start + _QUERIES]
        end = past + start + asking.shape[1] if causal else keys.shape[1]
        before = past + start if causal else end
        cuts = [*range(0, before, _KEYS), before, *([end] if causal else [])]
        runs = [(keys[:, first:stop], values[:, first:stop], first == before) for first, stop in pairwise(cuts)]
        states.append(merge([reference(asking, k, v, scale, own, softcap) for k, v, own in runs]))
    return torch.cat([out for out, _ in states], 1), torch.cat([lse for _, lse in states], 1)


def sliding(
    attention: SegmentAttention, query: Tensor, keys: Tensor, values: Tensor, scale: float, window: int, first: int
) -> AttentionState:
    """Attention in which a query sees `window` tokens, itself the last of them (Longformer, arXiv 2004.05150).

    Keys (G,T,D) stand at places 0..T, the queries (H,Q,D) from `first` on: T = first + Q where their own keys are among
    them, otherwise T <= first. No mask is needed: a run of queries no longer than the window sees its middle alike, its
    end causally, and of its beginning a triangle, which is causal attention from behind.
    """
    tokens, end, states = keys.shape[1], first + query.shape[1], []
    own = tokens > first
    # Behind the last place that sees anything.
    last = end if own else min(end, tokens + window - 1)
    start, stop = first, min(last, window if first < window else first + window)
    while start < last:
        middle = max(0, stop - window)
        run = query[:, start - first : stop - first]
        seen = slice(middle, min(tokens, stop))
        state = attention(run, keys[:, seen], values[:, seen], scale, own and stop - start > 1)
        edge = stop - start - 1 if start >= window else 0
        if edge:
            cut = slice(middle - edge, middle)
            asking, hidden, weighed = (each.flip(1) for each in (run[:, :edge], keys[:, cut], values[:, cut]))
            out, lse = (each.flip(1) for each in attention(asking, hidden, weighed, scale, edge > 1))
            out, lse = nn.functional.pad(out, (0, 0, 0, 1)), nn.functional.pad(lse, (0, 1), value=-torch.inf)
            state = merge([state, (out, lse)])
        states.append(state)
        start, stop = stop, min(last, stop + window)
    if last < end:
        blind = query[:, max(0, last - first) :]
        states.append((torch.zeros_like(blind), blind.new_full(blind.shape[:2], -torch.inf, dtype=torch.float32)))
    return torch.cat([out for out, _ in states], 1), torch.cat([lse for _, lse in states], 1)


def select_backend(device: torch.device, dtype: torch.dtype) -> tuple[SegmentAttention, str]:
    """The fastest attention of this device and dtype, with the reason in words."""
    if device.type == "cpu" and dtype in (torch.float32, torch.bfloat16):
        return fused, f"attention: PyTorch flash, CPU, {_short(dtype)}"
    # PyTorch has no flash kernel for GPUs before Ampere.
    if (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(device) >= (8, 0)
    ):
        where = f"{torch.cuda.get_device_name(device)}, {_short(dtype)}"
        # Before Hopper the two are about as fast.
        if torch.cuda.get_device_capability(device) >= (9, 0) and cudnn.works(device, dtype, reference):
            return chunked, f"attention: PyTorch flash, cuDNN for long chunks, {where}"
        return fused, f"attention: PyTorch flash, {where}"
    return reference, f"attention: plain PyTorch, {device.type}, {_short(dtype)} has no flash kernel here"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
