"""Blocks of unfinished scores, so that an interrupted re-reading goes on where it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.kvcache.exact import PodBlock

KIND = "scores"


@dataclass(frozen=True)
class Scores:
    """How much each slot is worth, (L, G, T) in float32, more is better, once `done` of all tokens have been used."""

    done: int
    values: Tensor


def to_block(scores: Scores) -> PodBlock:
    """The scores so far as plain bytes; the block spans no token."""
    values = scores.values.float().cpu().contiguous()
    meta = {"kind": KIND, "start": 0, "done": scores.done, "shape": list(values.shape)}
    return PodBlock(0, 0, meta, values.view(torch.uint8).numpy().data.cast("B"))


def from_block(
    meta: Mapping[str, Any], payload: memoryview, shape: KVShape, num_tokens: int, device: torch.device
) -> Scores:
    """The scores of stored bytes. Raises PodMismatch on foreign ones."""
    dims = (shape.layers, shape.kv_heads, num_tokens)
    if meta.get("kind") != KIND or tuple(meta["shape"]) != dims or len(payload) != 4 * torch.Size(dims).numel():
        raise PodMismatch(f"a block of {meta.get('shape')} scores does not fit {dims}")
    return Scores(int(meta["done"]), torch.frombuffer(payload, dtype=torch.float32).view(dims).clone().to(device))
