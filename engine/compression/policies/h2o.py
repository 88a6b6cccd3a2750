"""Keep what gets the most attention, summed over all queries of the section (H2O, arXiv 2306.14048).

Slot j of a KV head is worth f_j = sum over queries i of softmax_j(x_ij), where x are the logits. Half of the authors'
budget are such heavy hitters, half the last tokens. Here the last tokens are the recipe's exact window, sums are those
at the end of the section instead of the moment, and KV heads sum over the query heads that share them.
"""

from collections.abc import Iterator

from torch import Tensor

from engine.compression.policies.base import Subject
from engine.compression.policies.own_attention import own_attention
from engine.kvcache.blocks.scores import Scores


def h2o(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """One more reading."""
    return own_attention(subject, known, _add)


def _add(layer: int, logits: Tensor, scores: Tensor) -> None:
    scores += logits.softmax(-1).sum((1, 2))
