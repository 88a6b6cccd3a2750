"""Keep runs of tokens whole, so that what belongs together stays together (ChunkKV, arXiv 2502.00299).

Token j is worth g_j = sum over heads and over the queries i of an observation window of A_ij; a chunk the mean of its
tokens; and the best chunks stay, the same for all heads. Every second layer takes those of the layer below (index
reuse, n = 2). Defaults: chunks of 10 tokens in the paper, of 20 in kvpress. The window is here the last 32 tokens of
the section (32 is our choice), cheap beside reading and sound, since no question is known yet. A budget
is met exactly, so that of the last chunk to stay only the beginning may fit.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.compression.policies.own_attention import own_attention
from engine.kvcache.blocks.scores import Scores

OBSERVED = 32
"""Queries of the observation window."""
REUSED = 2
"""Layers that keep the same tokens."""


def chunkkv(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """One step; the policy's name ends with the tokens of a chunk."""
    length, far = int(subject.recipe.selection.policy.removeprefix("chunk")), subject.distant
    *_, observed = own_attention(subject, None, _add, max(0, len(subject.ids) - OBSERVED))
    chunks = torch.arange(len(far), device=subject.pod.device) // length
    worth = torch.zeros(len(observed.values), int(chunks[-1]) + 1, dtype=torch.float32, device=chunks.device)
    worth.index_add_(1, chunks, observed.values[:, 0, far.start : far.stop]).div_(chunks.bincount())
    # Places of chunks, best first; they leave no ties, which could tear two chunks where one is enough.
    place = worth.argsort(descending=True, stable=True).argsort()
    place = place[::REUSED].repeat_interleave(REUSED, 0)[: len(worth), chunks]
    yield subject.scores(-(place * length + torch.arange(len(far), device=chunks.device) % length)[:, None])


def _add(layer: int, logits: Tensor, scores: Tensor) -> None:
    scores += logits.softmax(-1).sum((0, 1, 2))
