"""A table of pods and a tail in plain PyTorch: every tensor at a fixed address, every length on the device."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from engine.core.kv_shape import KVShape
from engine.kvcache.quantized import AnyPod
from engine.runtime.attention_probe import AttentionProbe


class PlainTable:
    """Attends over all its room and masks what is not there, so that what it does can be captured in a CUDA graph.

    Its bucket is the power of two that the longest pod fits; rows behind it are not attended.
    """

    def __init__(self, shape: KVShape, suffix_tokens: int, device: torch.device, max_tokens: int) -> None:
        self.shape, self.room, self.max_tokens = shape, suffix_tokens, max_tokens
        # Zeros: what is masked is still multiplied.
        self.keys, self.values = (shape.empty(max_tokens, device).zero_() for _ in range(2))
        self.counts = torch.zeros(shape.layers, shape.kv_heads, dtype=torch.long, device=device)
        self.start = torch.zeros(1, dtype=torch.long, device=device)
        self.tail_keys, self.tail_values = (shape.empty(suffix_tokens, device).zero_() for _ in range(2))
        self.suffix_length = torch.zeros(1, dtype=torch.long, device=device)
        self.length = 0
        self.probe = AttentionProbe(1, 64, device)
        """Never asked for anything here."""
        self.rows = 1
        self.sets = 0
        """How often it was put in front of pods."""
        self.left = 0
        """Tokens in the tail when the pods were let go."""

    @property
    def bucket(self) -> Hashable:
        return self.rows

    def why_not(self, pods: Sequence[AnyPod]) -> str:
        """One layer's keys for another, and keys that are left out, are not built here."""
        layers = range(self.shape.layers)
        segments = [[part for pod in pods for part in pod.open().segments(layer)] for layer in layers]
        if any(part.roots is not None for layer in segments for part in layer):
            return "shared keys"
        heads = range(self.shape.kv_heads)
        most = max(sum(len(part.keys[head]) for part in layer) for layer in segments for head in heads)
        return "too many tokens" if most > self.max_tokens else ""

    def refuse(self, pods: Sequence[AnyPod], reason: str) -> None:
        """Kernels are not compiled here."""

    def set(self, pods: Sequence[AnyPod]) -> None:
        self.sets += 1
        self.length = 0
        self.suffix_length.zero_()
        for layer in range(self.shape.layers):
            parts = [part for pod in pods for part in pod.open().segments(layer)]
            for head in range(self.shape.kv_heads):
                at = 0
                for part in parts:
                    keys, values = part.keys[head], part.values[head]
                    if part.rotation is not None:
                        keys, values = ((rows.float() @ part.rotation).to(rows.dtype) for rows in (keys, values))
                    self.keys[layer, head, at : at + len(keys)] = keys
                    self.values[layer, head, at : at + len(keys)] = values
                    at += len(keys)
                self.counts[layer, head] = at
        self.rows = min(1 << int(self.counts.max()).bit_length(), self.max_tokens)
        self.start.fill_(max((pod.num_tokens for pod in pods), default=0))

    def forget(self) -> None:
        self.left = self.length

    def positions(self, count: int) -> Tensor:
        return self.start + self.suffix_length + torch.arange(count, device=self.start.device)

    def advance(self, count: int) -> None:
        self.suffix_length.add_(count)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        heads, count, dim = query.shape
        groups = self.shape.kv_heads
        new = torch.arange(count, device=query.device)
        self.tail_keys[layer].index_copy_(1, self.suffix_length + new, keys)
        self.tail_values[layer].index_copy_(1, self.suffix_length + new, values)
        all_keys = torch.cat([self.keys[layer, :, : self.rows], self.tail_keys[layer]], 1).float()
        all_values = torch.cat([self.values[layer, :, : self.rows], self.tail_values[layer]], 1).float()
        slots = torch.arange(self.room, device=query.device)
        distant = (
            slots.new_ones(count, 1) * torch.arange(self.rows, device=query.device) < self.counts[layer, :, None, None]
        )
        proximal = (slots <= (self.suffix_length + new)[:, None]).expand(groups, -1, -1)
        seen = torch.cat([distant, proximal], 2).repeat_interleave(heads // groups, 0)
        each = query.float().reshape(groups, -1, dim)
        logits = (each @ all_keys.transpose(1, 2) * scale).reshape(heads, count, -1)
        weights = logits.masked_fill(~seen, -torch.inf).softmax(-1).reshape(groups, heads // groups * count, -1)
        return (weights @ all_values).reshape(heads, count, dim).to(query.dtype)
