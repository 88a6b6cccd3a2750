"""What `rope` computes, in plain PyTorch: the specification."""

import torch
from torch import Tensor

from engine.core.quant import hadamard
from engine.core.rope import HeadNorms, Rotary
from engine.kernels.attention.rope_append import Places


def rope(rows: Tensor, rotary: Rotary | None, norms: HeadNorms | None, places: Places) -> None:
    """See rope.rope."""
    dim, kv_heads, count = places.keys.shape[2], len(places.keys), len(rows)
    heads = rows.shape[1] // dim - 2 * kv_heads
    split = rows.reshape(count, -1, dim).transpose(0, 1).float()
    query, keys, values = split[:heads], split[heads : heads + kv_heads], split[heads + kv_heads :]
    if norms:
        query, keys = (
            each * torch.rsqrt(each.square().mean(-1, keepdim=True) + norms.epsilon) * weight.float()
            for each, weight in ((query, norms.query), (keys, norms.keys))
        )
    if rotary:
        cos, sin = (table[rotary.positions].float().repeat(1, 2) for table in (rotary.cos, rotary.sin))
        query, keys = (
            each * cos + torch.cat([-each[..., dim // 2 :], each[..., : dim // 2]], -1) * sin for each in (query, keys)
        )
    query = query.to(places.keys.dtype)
    places.query.copy_(query)
    if places.rotated is not None:
        places.rotated.copy_(query.float() @ hadamard(dim, rows.device))
    slots = places.start + torch.arange(count, device=rows.device)
    for place, new in ((places.keys, keys), (places.values, values)):
        place.index_copy_(1, slots, new.to(place.dtype))
