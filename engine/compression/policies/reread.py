"""Keep what the model looks at while it says the text again (KVzip, arXiv 2505.23416).

The score of a slot is the most attention that any token of the repetition pays to it. That costs about as much as
reading did.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.core.errors import WindowExceeded
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.runner import Runner

CHUNK_TOKENS = 1024
"""Most tokens that are said again at once."""
_ASKED = "\n\nRepeat the text above word by word."
_ASKED_ON = "\n\nRepeat the text above word by word, from where it says: "
_LEAD_TOKENS = 8
_SCORES_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Reread:
    """The whole text once more, in chunks, each behind the words that lead to it."""

    pooled: bool = True

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """After every chunk. Raises WindowExceeded where the window has no room behind the text."""
        pod, runner = subject.pod, subject.runner
        scores = known or Scores(0, torch.zeros(pod.keys.shape[:3], device=pod.device))
        while scores.done < len(subject.ids):
            asked = _asked(runner, subject.ids[max(0, scores.done - _LEAD_TOKENS) : scores.done])
            room = min(CHUNK_TOKENS, runner.model.window - pod.num_tokens - len(asked))
            if room < 1:
                raise WindowExceeded(f"a text of {pod.num_tokens} tokens leaves no room to repeat it")
            chunk = subject.ids[scores.done : scores.done + room]
            ids = [*asked, *chunk]
            context = _Rereading(subject, SuffixCache(runner.model.shape, len(ids), runner.model.device), scores.values)
            runner.run(context, ids)
            scores = Scores(scores.done + len(chunk), context.best)
            yield scores


class _Rereading(Context):
    """Also records the most attention that each of the pod's slots gets from any query."""

    def __init__(self, subject: Subject, suffix: SuffixCache, best: Tensor) -> None:
        super().__init__([subject.pod], suffix, subject.runner.attention)
        self.best = best.clone()

    def _observe(
        self, layer: int, query: Tensor, lse: Tensor, scale: float, by_pod: Sequence[Sequence[Segment]]
    ) -> None:
        # With the log-sum-exp as further channels, one product gives the logarithms of the shares; split in two, it
        # keeps its precision in a short dtype.
        high = (-lse).to(query.dtype)
        low = (-lse - high.float()).to(query.dtype)
        asking = torch.cat([query * scale, high[..., None], low[..., None]], -1)
        (segment,) = by_pod[0]
        for group, askers in enumerate(asking.flatten(0, 1).chunk(len(segment.keys))):
            keys = torch.nn.functional.pad(segment.keys[group], (0, 2), value=1.0).T
            for rows in torch.split(askers, max(1, _SCORES_AT_ONCE // keys.shape[1])):
                most = (rows @ keys).amax(0).float().exp()
                self.best[layer, group] = torch.maximum(self.best[layer, group], most)


def _asked(runner: Runner, lead: Sequence[int]) -> list[int]:
    """Ids of the request to repeat, from some words on, up to where the model begins to speak."""
    tokenizer = runner.model.tokenizer
    asked = [*tokenizer.encode(_ASKED_ON)[0], *lead] if lead else tokenizer.encode(_ASKED)[0]
    return [*asked, *tokenizer.user_turn()[1]]
