"""Keep what gets the most attention, and fold every other token into the nearest kept one (Elastic Cache, 2407.18121).

Token j of a layer is worth s_j = sum over queries i of mean over heads A_ij; the best ones stay, and each becomes the
mean of itself and of all dropped tokens that it is nearest to, by |i - j|: v_i <- mean of {v_j : nearest(j) = i}.
Defaults: 1 sink, the last token, ratio 0.2, keys and values alike. Here sinks and the window are the recipe's, which
take nothing up, so that they stay exact. `elastic` folds values only: keys carry the rotation of their positions, and
the mean of several is the key of none; `elastickv` folds both, as the authors' code does. Of two kept tokens as near,
the earlier takes a token. What is generated is not dropped again: it is short, and belongs to no pod.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.compression.policies.own_attention import own_attention
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod


def elastic(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """One more reading; all heads of a layer keep the same tokens."""
    return own_attention(subject, known, _add)


def values(exact: Pod, far: range, kept: Tensor) -> Pod:
    """The pod whose kept distant slots (L, G, F) have taken up the values of the others."""
    return replace(exact, values=_folded(exact.values, far, nearest(kept)))


def keys_and_values(exact: Pod, far: range, kept: Tensor) -> Pod:
    """The same with their keys."""
    return replace(values(exact, far, kept), keys=_folded(exact.keys, far, nearest(kept)))


def nearest(kept: Tensor) -> Tensor:
    """The nearest place (..., F) at which `kept` (..., F) is true, of each place."""
    last, places = kept.shape[-1], torch.arange(kept.shape[-1], device=kept.device)
    before = places.where(kept, -2 * last).cummax(-1).values
    behind = places.where(kept, 3 * last).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(places - before <= behind - places, before, behind).clamp(0, last - 1)


def _folded(rows: Tensor, far: range, into: Tensor) -> Tensor:
    """All rows (L, G, T, D), of which distant ones are the mean of those that go into them."""
    distant = rows[:, :, far.start : far.stop].float()
    total = torch.zeros_like(distant).scatter_add_(2, into[..., None].expand_as(distant), distant)
    count = torch.zeros_like(distant[..., 0]).scatter_add_(2, into, torch.ones_like(distant[..., 0])).clamp_min(1)
    folded = rows.clone()
    folded[:, :, far.start : far.stop] = (total / count[..., None]).to(rows.dtype)
    return folded


def _add(layer: int, logits: Tensor, scores: Tensor) -> None:
    scores += logits.softmax(-1).mean((0, 1)).sum(0)
