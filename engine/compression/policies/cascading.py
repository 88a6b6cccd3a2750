"""Keep recent tokens densely and older ones ever more sparsely (Cascading KV cache, arXiv 2406.17808).

C caches of W / C tokens stand behind each other: what leaves one is offered to the next, where every second one is
taken (of all tokens every 2^c-th), and otherwise the better of it and the newest there stays; until all are full,
everything is taken. Tokens are compared by an average of their attention, s_j <- b s_j + (1 - b) max over heads A_ij.
Defaults: C = 8, b = 0.9999, 64 sinks. Here the first cache stands behind the recipe's exact window, and sinks are the
recipe's, 16; attention is that of the whole section, which is read exactly anyway, and the averages that are compared
are those at its end instead of the moment, since that needs no others to be kept.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.compression.policies.own_attention import own_attention
from engine.kvcache.blocks.scores import Scores

CACHES = 8
BETA = 0.9999


def cascading(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """One more reading; the cascade runs behind the last step."""
    far = subject.distant
    for scores in own_attention(subject, known, _add):
        if scores.done == len(subject.ids):
            average = scores.values[:, 0, far.start : far.stop]
            kept = torch.zeros_like(average)
            for row, each in zip(kept, average.tolist(), strict=True):
                row[cascade(each, subject.slots)] = 1
            scores = subject.scores(kept[:, None])
        yield scores


def cascade(scores: Sequence[float], slots: int) -> list[int]:
    """The tokens, of which a row of scores tells, that are held in the end."""
    sizes = [slots * (number + 1) // CACHES - slots * number // CACHES for number in range(CACHES)]
    caches = [(size, deque[int]()) for size in sizes if size]
    offered = [0] * len(caches)
    for token in range(len(scores)):
        moving = token
        for number, (size, cache) in enumerate(caches):
            offered[number] += 1
            if token >= slots and number and offered[number] % 2:
                cache[-1] = max(cache[-1], moving, key=scores.__getitem__)
                break
            cache.append(moving)
            if len(cache) <= size:
                break
            moving = cache.popleft()
    return [token for _, cache in caches for token in cache]


def _add(layer: int, logits: Tensor, scores: Tensor) -> None:
    seen = logits.softmax(-1).amax((0, 1))
    fading = BETA ** torch.arange(len(seen) - 1, -1, -1, dtype=torch.float32, device=seen.device)
    scores *= BETA ** len(seen)
    scores += (1 - BETA) * (fading @ seen)
