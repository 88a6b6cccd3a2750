"""Attention as (output, log-sum-exp): the specification, and the merge of segments (flash decoding, arXiv 2311.01282).

Letters: H query heads, G KV heads, Q new tokens, T tokens, D head size.
"""

import torch
from torch import Tensor

AttentionState = tuple[Tensor, Tensor]
"""What attention over some tokens comes to: output (H,Q,D) and log-sum-exp (H,Q)."""


def reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: float,
    causal: bool,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The specification: explicit softmax in float32 (float64 for float64 inputs), its logits soft-capped if asked.

    `bias` (G,T) is added to the logits: the logarithm of how many tokens each key stands for.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    groups = query.shape[0] // keys.shape[0]
    k = keys.to(wide).repeat_interleave(groups, 0)
    v = values.to(wide).repeat_interleave(groups, 0)
    logits = capped(query.to(wide) @ k.transpose(1, 2) * scale, softcap)
    if bias is not None:
        logits = logits + bias.to(wide).repeat_interleave(groups, 0)[:, None]
    if causal:
        before = keys.shape[1] - query.shape[1]
        ahead = torch.ones(logits.shape[1:], dtype=torch.bool, device=query.device).triu(1 + before)
        logits = logits.masked_fill(ahead, float("-inf"))
    lse = logits.logsumexp(-1)
    return (torch.exp(logits - lse[..., None]) @ v).to(query.dtype), lse


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Logits as a soft cap leaves them, if there is one."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def sunk(query: Tensor, sinks: Tensor) -> AttentionState:
    """What attention to learned logits (H,) comes to, for queries (H,Q,D): nothing, with their weight."""
    lse = sinks.to(torch.promote_types(query.dtype, torch.float32))[:, None].expand(query.shape[:2])
    return torch.zeros_like(query), lse


def merge(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Merge segments' (output (H,Q,D), log-sum-exp (H,Q)) into those of their concatenation."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        # What every token of an answer does in every layer: half the small operations of the general case.
        (first, seen), (second, other) = parts
        wide = torch.promote_types(first.dtype, seen.dtype)
        share = torch.sigmoid(other - seen)[..., None]
        return torch.lerp(first.to(wide), second.to(wide), share).to(first.dtype), torch.logaddexp(seen, other)
    lse = torch.stack([part[1] for part in parts])
    total = lse.logsumexp(0)
    weights = torch.exp(lse - total)
    out = torch.zeros_like(parts[0][0], dtype=total.dtype)
    for (part, _), weight in zip(parts, weights, strict=True):
        out += part * weight[..., None]
    return out.to(parts[0][0].dtype), total
