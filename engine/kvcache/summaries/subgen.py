"""Clusters with counts for the sum of attention, sampled values for what it weighs (SubGen, arXiv 2402.06082).

A cluster c of n_c keys is one of them, k_c; s slots hold pairs drawn with probability |v|^2 / m, m = sum of all |v|^2:
    t(q) = sum_c n_c exp(q k_c / sqrt(d)),  z(q) = 1/s sum_slots m / |v|^2 exp(q k / sqrt(d)) v,  output z / t.
So log n_c is a bias of a key's logit, and log t the log-sum-exp that the output is merged by with exact tokens.
The authors draw from a stream, with a threshold on a cluster's radius. Here a section is at hand whole: clusters are by
greedy k-centre, as in their experiments with language models, to as many as the budget takes, and the samples are drawn
at once, seeded by the layer, from the same distributions. Half of the budget are clusters of one sample each (the
authors keep several: for as many bytes, more clusters tell more), half are slots.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.attention.sdpa import SegmentAttention
from engine.core.kv_shape import KVShape
from engine.core.lse import reference
from engine.kvcache.exact import Pod
from engine.kvcache.recipe import Selection
from engine.kvcache.segment import Segment
from engine.kvcache.summaries.base import Field


@dataclass(frozen=True, kw_only=True)
class Estimate(Segment):
    """`keys` (G, C, D) stand for clusters of exp `log_counts` (G, C); `values` (G, S, D) belong to `slot_keys`, of
    weights exp `log_weights` (G, S)."""

    log_counts: Tensor
    slot_keys: Tensor
    log_weights: Tensor

    def attend(
        self,
        attention: SegmentAttention,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
    ) -> tuple[Tensor, Tensor]:
        """See Segment.attend; both sums are estimates, so weights do not add up to 1."""
        assert isinstance(self.keys, Tensor) and isinstance(self.values, Tensor)
        _, lse = reference(query, self.keys, self.keys, scale, False, bias=self.log_counts)
        out, seen = reference(query, self.slot_keys, self.values, scale, False, bias=self.log_weights)
        return (out * (seen - lse).exp()[..., None]).to(query.dtype), lse

    def logits(
        self,
        head: int,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
        softcap: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Of a cluster, at the place of its sample."""
        logits, places = super().logits(head, query, queries, scale, position, softcap)
        return logits + self.log_counts[head * len(self.keys) // len(query)], places


def fields(shape: KVShape, selection: Selection, distant: int) -> Sequence[Field]:
    """Keys, counts and positions of clusters; keys, values and weights of slots."""
    clusters = max(1, round(selection.keep * distant))
    slots, heads, dim = -(-clusters // 2), shape.kv_heads, shape.head_dim
    return (
        (shape.dtype, (heads, clusters, dim)),
        (torch.float32, (heads, clusters)),
        (torch.int32, (heads, clusters)),
        (shape.dtype, (heads, slots, dim)),
        (shape.dtype, (heads, slots, dim)),
        (torch.float32, (heads, slots)),
    )


def make(
    exact: Pod, far: range, kept: Tensor, selection: Selection, learned: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """A layer after the other."""
    count = max(1, round(selection.keep * len(far)))
    for layer, (keys, values) in enumerate(zip(exact.keys, exact.values, strict=True)):
        keys, values = keys[:, far.start : far.stop], values[:, far.start : far.stop]
        generator = torch.Generator().manual_seed(layer)
        cluster = k_centre(keys.float(), count)
        sizes = torch.zeros(len(keys), count, device=keys.device).scatter_add_(
            1, cluster, torch.ones_like(cluster).float()
        )
        # The last of a cluster in a random order of all is each of its members alike.
        order = torch.randperm(len(far), generator=generator).to(keys.device)
        place = torch.full_like(sizes, -1).scatter_reduce_(
            1, cluster[:, order], torch.arange(len(far), device=keys.device).float().expand(len(keys), -1), "amax"
        )
        chosen = order[place.long()]
        weights = values.float().square().sum(-1)
        slots = torch.multinomial(weights.cpu(), -(-count // 2), True, generator=generator).to(keys.device)
        total = weights.sum(1, keepdim=True).log() - torch.tensor(slots.shape[1]).log()
        yield (
            _rows(keys, chosen),
            sizes.log(),
            (chosen + far.start).int(),
            _rows(keys, slots),
            _rows(values, slots),
            total - weights.gather(1, slots).log(),
        )


def segment(layer: int, parts: Sequence[Tensor], learned: Mapping[str, Tensor]) -> Segment:
    """See Estimate."""
    keys, log_counts, positions, slot_keys, values, log_weights = parts
    return Estimate(
        keys, values, tuple(positions.long()), log_counts=log_counts, slot_keys=slot_keys, log_weights=log_weights
    )


def k_centre(keys: Tensor, count: int) -> Tensor:
    """The cluster (G, F) of each key (G, F, D): next to the first key, each centre is the one farthest from all."""
    cluster = torch.zeros(keys.shape[:2], dtype=torch.long, device=keys.device)
    distance = torch.full(keys.shape[:2], torch.inf, device=keys.device)
    centre = cluster[:, :1]
    for number in range(count):
        new = (keys - keys.gather(1, centre[..., None].expand(-1, -1, keys.shape[2]))).square().sum(-1)
        cluster = cluster.where(distance <= new, number)
        distance = distance.minimum(new)
        centre = distance.argmax(1, keepdim=True)
    return cluster


def _rows(rows: Tensor, places: Tensor) -> Tensor:
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2])).contiguous()
