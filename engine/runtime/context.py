"""Context: what one call of the model attends to, several pods and one tail, and the heads whose look is recorded."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from engine.attention.sdpa import SegmentAttention, in_pieces, sliding
from engine.core.errors import ModelUnsupported, PodMismatch
from engine.core.kv_shape import LayerShape
from engine.core.lse import merge, sunk
from engine.kvcache.quantized import AnyPod
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache

Head = tuple[int, int]
"""(layer, query head)."""


class EarlyExit(Exception):
    """Every head to record has looked."""


class Context:
    """Pods first, then the tail, then the new tokens among themselves; implements sdpa.ShapedKVContext.

    `heads` are observed in every call. Where it `ends` a call ends early, by EarlyExit: the layers above the last head
    are not needed.
    """

    def __init__(
        self,
        pods: Sequence[AnyPod],
        suffix: SuffixCache,
        attention: SegmentAttention,
        heads: Sequence[Head] = (),
        ends: bool = True,
    ) -> None:
        self.pods = pods
        self.suffix = suffix
        self.attention = attention
        self.heads = tuple(heads)
        self.ends = ends
        self.probs: dict[Head, list[Tensor]] = {}
        """Per recorded head and pod: attention mass (Q, T) of the call's tokens on the pod's."""
        self._queries: dict[int, Tensor] = {}
        """Of this call's layers, where a pod's segments ask with another layer's queries."""
        self._sinks: dict[int, Tensor] = {}
        """Learned logits (H,) of layers that have some."""
        if len(pods) > 1 and not suffix.shape.attends_together:
            raise PodMismatch(f"layers with a state go on from one section, not from {len(pods)}")

    @property
    def position(self) -> int:
        """Position of the next token: behind the longest pod and everything in the tail."""
        return max((pod.num_tokens for pod in self.pods), default=0) + self.suffix.length

    @property
    def states(self) -> tuple[Tensor, ...]:
        """Those that the next token goes on from; none where a text begins. Raises PodMismatch if they are missing."""
        found = self.suffix.states or (self.pods[0].states if self.pods else ())
        if self.position and not found:
            raise PodMismatch("the states behind what was read are missing")
        return found

    def expect(self, layer: int, asked: LayerShape, sinks: Tensor | None) -> int:
        """See ShapedKVContext."""
        shape = self.suffix.shape
        layer = shape.attending.index(layer) if shape.attending else layer
        known = shape.per_layer[layer]
        if replace(asked, owner=known.owner) != known:
            raise ModelUnsupported(f"layer {layer} attends as {asked}, and its config says {known}")
        if sinks is not None:
            self._sinks[layer] = sinks
        return layer

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Attend pods, tail and the new tokens; keep the new keys and values in the tail.

        The query may be that of the last new tokens alone.
        """
        by_pod = [pod.segments(layer, query) for pod in self.pods]
        segments = [segment for each in by_pod for segment in each]
        if any(segment.roots for segment in segments):
            self._queries[layer] = query
        kind, attention, new = self.suffix.shape.per_layer[layer], self.attention, keys.shape[1]
        if kind.softcap is not None:
            attention = partial(in_pieces, softcap=kind.softcap)
        unasked = new - query.shape[1]
        start = self.position + unasked
        parts = [each.attend(attention, query, self._queries, scale, start) for each in segments]
        if layer in self._sinks:
            parts.append(sunk(query, self._sinks[layer]))
        # SuffixCache and new tokens are one segment; a single new token sees it whole.
        self.suffix.append(layer, keys, values)
        held = self.suffix.segment(layer, self.suffix.length + new)
        if kind.window is None:
            parts.append(attention(query, *held, scale, query.shape[1] > 1))
        else:
            parts.append(sliding(attention, query, *held, scale, kind.window, self.suffix.length + unasked))
        out, lse = merge(parts)
        self._observe(layer, query, lse, scale, by_pod)
        return out

    def _observe(
        self, layer: int, query: Tensor, lse: Tensor, scale: float, by_pod: Sequence[Sequence[Segment]]
    ) -> None:
        """Record where the heads of a layer look, given the log-sum-exp (H, Q) over everything attended."""
        for head in self.heads:
            if head[0] == layer:
                softcap = self.suffix.shape.per_layer[layer].softcap
                self.probs[head] = [
                    self._mass(segments, query, lse, head[1], scale, pod.num_tokens, softcap)
                    for segments, pod in zip(by_pod, self.pods, strict=True)
                ]
        if self.ends and self.heads and len(self.probs) == len(self.heads):
            raise EarlyExit

    def _mass(
        self,
        segments: Sequence[Segment],
        query: Tensor,
        lse: Tensor,
        head: int,
        scale: float,
        num_tokens: int,
        softcap: float | None,
    ) -> Tensor:
        """Attention mass (Q, T) of one query head on the tokens of one pod, as a share of everything attended."""
        mass = torch.zeros(query.shape[1], num_tokens, dtype=torch.float32, device=query.device)
        for segment in segments:
            logits, positions = segment.logits(head, query, self._queries, scale, self.position, softcap)
            mass.index_copy_(1, positions, torch.exp(logits - lse[head][:, None]))
        return mass
