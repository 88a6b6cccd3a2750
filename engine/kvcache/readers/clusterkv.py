"""Attend the clusters of keys whose centroids a query likes best (ClusterKV, arXiv 2412.03213).

Behind the first tokens, a layer's keys are grouped by k-means in each KV head, by cosine, when a pod is first asked. A
query ranks centroids and takes the tokens of whole clusters, best first, until the budget is spent; of the last one
what fits. What a query reads beside is one centroid a cluster.

    c_i = q . mu_i;   S = first B tokens of clusters by descending c;   out = softmax(q K_S / sqrt(d)) V_S

Defaults as the authors': 16 first tokens apart, one cluster per 80 tokens (400 at 32,000), 20 iterations. Different
here: k-means starts from keys at even distances, so that it finds the same each time; a KV head asks with the mean of
its queries (their `qavg`); tokens of the answer are attended whole, so none of them are clustered.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from engine.core.weak_cache import WeakCache
from engine.kvcache.quantized import AnyPod
from engine.kvcache.readers.base import Reader
from engine.kvcache.segment import Segment

SINKS = 16
TOKENS_PER_CLUSTER = 80
ITERATIONS = 20
_AT_ONCE = 16_384
"""Keys whose distances to all centroids are written out."""


@dataclass(frozen=True)
class Clusters:
    """`centroids` (G, C, D); slots (G, N) ordered by cluster, of which each has `sizes` (G, C) from `starts` (G, C)."""

    centroids: Tensor
    slots: Tensor
    sizes: Tensor
    starts: Tensor


class ClusterKV(Reader):
    """See the module."""

    def top_slots(self, layer: int, query: Tensor, far: Segment, budget: int) -> Tensor | None:
        assert isinstance(far.keys, Tensor)
        known = _INDEX(self.pod)
        found = known[layer] if layer in known else known.setdefault(layer, cluster(far.keys))
        groups, clusters, dim = found.centroids.shape
        self.scanned += clusters
        asked = query.reshape(groups, -1, dim).mean(1, keepdim=True).to(found.centroids.dtype)
        return recalled(found, (asked @ found.centroids.transpose(1, 2))[:, 0], budget)


def recalled(clusters: Clusters, likes: Tensor, budget: int) -> Tensor:
    """Slots (G, B): the first ones, then those of clusters by how much they are liked (G, C)."""
    order = likes.argsort(dim=1, descending=True, stable=True)
    ends = clusters.sizes.gather(1, order).cumsum(1)
    sinks = min(SINKS, budget)
    places = torch.arange(budget - sinks, device=likes.device).expand(len(likes), -1).contiguous()
    at = torch.searchsorted(ends, places, right=True)
    of = order.gather(1, at)
    within = places - ends.gather(1, at) + clusters.sizes.gather(1, of)
    slots = clusters.slots.gather(1, clusters.starts.gather(1, of) + within)
    return torch.cat([torch.arange(sinks, device=likes.device).expand(len(likes), -1), slots], 1)


def cluster(keys: Tensor) -> Clusters:
    """The clusters of keys (G, T, D) behind the first ones, by cosine k-means."""
    rows = keys[:, SINKS:]
    unit, count = normalize(rows, dim=2), rows.shape[1]
    number = max(1, count // TOKENS_PER_CLUSTER)
    centroids = unit[:, torch.linspace(0, count - 1, number, device=keys.device).long()]
    for _ in range(ITERATIONS):
        sums, _ = sums_of(unit, nearest(unit, centroids), number)
        # A cluster that lost all of its keys stays where it was.
        centroids = torch.where(sums.any(2, keepdim=True), normalize(sums, dim=2).to(unit.dtype), centroids)
    labels = nearest(unit, centroids)
    sums, sizes = sums_of(rows, labels, number)
    means = (sums / sizes.clamp_min(1)[..., None]).to(rows.dtype)
    return Clusters(means, labels.argsort(dim=1, stable=True) + SINKS, sizes, sizes.cumsum(1) - sizes)


def nearest(unit: Tensor, centroids: Tensor) -> Tensor:
    """The centroid (G, T) that is nearest to each key of length one, by cosine."""
    parts = torch.split(unit, _AT_ONCE, 1)
    return torch.cat([(each @ centroids.transpose(1, 2)).argmax(2) for each in parts], 1)


def sums_of(rows: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The sum (G, C, D) of the rows (G, T, D) of each label, and how many (G, C) they are; by products, since scattered
    sums differ from time to time on a GPU."""
    groups, _, dim = rows.shape
    sums = rows.new_zeros(groups, number, dim, dtype=torch.promote_types(rows.dtype, torch.float32))
    sizes, every = labels.new_zeros(groups, number), torch.arange(number, device=rows.device)
    for part, of in zip(torch.split(rows, _AT_ONCE, 1), torch.split(labels, _AT_ONCE, 1), strict=True):
        hot = of[..., None] == every
        sums += hot.to(part.dtype).transpose(1, 2) @ part
        sizes += hot.sum(1)
    return sums, sizes


def _none(pod: AnyPod) -> dict[int, Clusters]:
    return {}


_INDEX: WeakCache[AnyPod, dict[int, Clusters]] = WeakCache(_none)
"""By layer, for as long as a pod is in memory."""
