"""The attention that a section pays to itself, for policies that score by it: its queries are asked once more."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.prefill.builder import chunk_tokens

_LOGITS_AT_ONCE = 1 << 25

Add = Callable[[int, Tensor, Tensor], None]
"""(layer, logits (G, H / G, R, T), scores (G, T)): adds to the scores of the first T slots, in place, what the R tokens
that stand last among them ask of them. Logits are float32, and minus infinity behind each token."""


def own_attention(subject: Subject, known: Scores | None, add: Add, first: int = 0) -> Iterator[Scores]:
    """The queries of all tokens from `first` on, each over its own exact prefix; scores after every chunk."""
    pod, runner, num_tokens = subject.pod, subject.runner, len(subject.ids)
    scores = known or Scores(first, torch.zeros(pod.keys.shape[:3], dtype=torch.float32, device=pod.device))
    if pod.states and scores.done < num_tokens:
        # Kept are those behind the last token alone, so what leads to the others is read from the beginning.
        scores = Scores(0, torch.zeros_like(scores.values))
    states: tuple[Tensor, ...] = ()
    while scores.done < num_tokens:
        start, stop = scores.done, scores.done + chunk_tokens(pod.device)
        # A single token would go a way on which nothing is observed.
        stop = stop if stop < num_tokens - 1 else num_tokens
        past = pod.keys[:, :, :start], pod.values[:, :, :start], pod.positions[:start]
        prefix = replace(pod, keys=past[0], values=past[1], positions=past[2], num_tokens=start, states=states)
        suffix = SuffixCache(runner.model.shape, stop - start, pod.device)
        context = _Asking(subject, prefix, suffix, max(first, start), add, scores.values)
        runner.run(context, subject.ids[start:stop])
        scores, states = Scores(stop, context.scores), suffix.states
        yield scores


class _Asking(Context):
    """Also shows what the queries from some token on ask of the keys up to themselves."""

    def __init__(
        self, subject: Subject, prefix: Pod, suffix: SuffixCache, first: int, add: Add, scores: Tensor
    ) -> None:
        super().__init__([prefix], suffix, subject.runner.attention)
        self.scores = scores.clone()
        self._keys = subject.pod.keys
        self._first = first
        self._add = add

    def _observe(
        self, layer: int, query: Tensor, lse: Tensor, scale: float, by_pod: Sequence[Sequence[Segment]]
    ) -> None:
        keys, start = self._keys[layer], self.position
        end = start + query.shape[1]
        asking = query.reshape(len(keys), -1, *query.shape[1:])
        at_once = max(1, _LOGITS_AT_ONCE // (len(query) * end))
        for begin in range(self._first, end, at_once):
            stop = min(end, begin + at_once)
            logits = (asking[:, :, begin - start : stop - start] @ keys[:, None, :stop].mT).float() * scale
            places = torch.arange(stop, device=keys.device)
            logits.masked_fill_(places > places[begin:, None], -torch.inf)
            self._add(layer, logits, self.scores[layer, :, :stop])
