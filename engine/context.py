"""Context: what one call of the model attends to, several pods and one tail, and the heads whose look is recorded."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.attention import SegmentAttention, merge
from engine.pod import Pod
from engine.tail import Tail

Head = tuple[int, int]
"""(layer, query head)."""


class Looked(Exception):
    """Every head to record has looked."""


class Context:
    """Pods first, then the tail, then the new tokens among themselves; implements attention.Memory.

    With `heads` it serves for one call, which ends early by Looked: the layers above the last head are not needed.
    """

    def __init__(
        self, pods: Sequence[Pod], tail: Tail, attention: SegmentAttention, heads: Sequence[Head] = ()
    ) -> None:
        self.pods = pods
        self.tail = tail
        self.attention = attention
        self.heads = tuple(heads)
        self.looks: dict[Head, list[Tensor]] = {}
        """Per recorded head and pod: attention mass (Q, K) of the call's tokens on the pod's slots."""

    @property
    def position(self) -> int:
        """Position of the next token: behind the longest pod and everything in the tail."""
        return max((pod.num_tokens for pod in self.pods), default=0) + self.tail.length

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend pods, tail and the new tokens; keep the new keys and values in the tail."""
        # PyTorch's flash attention ends the process over a segment without slots.
        segments = [pod.segment(layer) for pod in self.pods if len(pod.positions)]
        if query.shape[1] == 1:
            # One token sees itself whole: tail and new token are one segment, without a causal part.
            self.tail.append(layer, keys, values)
            stop = self.tail.length + 1
            segments.append((self.tail.keys[layer, :, :stop], self.tail.values[layer, :, :stop]))
            parts = [self.attention(query, k, v, scale, False) for k, v in segments]
        else:
            if self.tail.length:
                segments.append(self.tail.segment(layer))
            self.tail.append(layer, keys, values)
            parts = [self.attention(query, k, v, scale, False) for k, v in segments]
            parts.append(self.attention(query, keys, values, scale, True))
        out, lse = merge(parts)
        for head in self.heads:
            if head[0] == layer:
                self.looks[head] = [self._look(query, pod.keys[layer], lse, head[1], scale) for pod in self.pods]
        if self.heads and len(self.looks) == len(self.heads):
            raise Looked
        return out

    @staticmethod
    def _look(query: Tensor, keys: Tensor, lse: Tensor, head: int, scale: float) -> Tensor:
        """Attention mass (Q, K) of one query head on one pod, as a share of everything attended."""
        group = head // (query.shape[0] // keys.shape[0])
        logits = (query[head] @ keys[group].T).float() * scale
        return torch.exp(logits - lse[head][:, None])
