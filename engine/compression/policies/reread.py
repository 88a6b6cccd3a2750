"""Keep what the model looks at while it says the text again (KVzip, arXiv 2505.23416).

The score of a slot is the most attention that any token of the repetition pays to it. That costs about as much as
reading did.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from engine.compression.policies.base import Subject
from engine.core.errors import WindowExceeded
from engine.kernels.card import why_not_triton
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.segment import Segment
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.prefill.builder import chunk_tokens
from engine.runtime.runner import Runner

CHUNK_TOKENS = 1024
"""Most tokens that are said again at once by a processor."""
_ASKED = "\n\nRepeat the text above word by word."
_ASKED_ON = "\n\nRepeat the text above word by word, from where it says: "
_LEAD_TOKENS = 8
_SCORES_AT_ONCE = 1 << 25


def reread(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """The whole text once more, in chunks, each behind the words that lead to it; scores after every chunk.

    Raises WindowExceeded where the window has no room behind the text.
    """
    pod, runner = subject.pod, subject.runner
    scores = known or Scores(0, torch.zeros(pod.keys.shape[:3], device=pod.device))
    while scores.done < len(subject.ids):
        asked = _asked(runner, subject.ids[max(0, scores.done - _LEAD_TOKENS) : scores.done])
        room = min(_at_once(runner, asked), runner.model.window - pod.num_tokens - len(asked))
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
        self._column_max = _fastest(best.device)

    def _observe(
        self, layer: int, query: Tensor, lse: Tensor, scale: float, by_pod: Sequence[Sequence[Segment]]
    ) -> None:
        (segment,) = by_pod[0]
        assert isinstance(segment.keys, Tensor)
        self._column_max(query, segment.keys, lse, scale, self.best[layer])


def column_max(query: Tensor, keys: Tensor, lse: Tensor, scale: float, best: Tensor) -> None:
    """See engine.kernels.attention.column_max."""
    # With the log-sum-exp as further channels, one product gives the logarithms of the shares; split in two, it keeps
    # its precision in a short dtype.
    high = (-lse).to(query.dtype)
    low = (-lse - high.float()).to(query.dtype)
    asking = torch.cat([query * scale, high[..., None], low[..., None]], -1)
    for group, askers in enumerate(asking.flatten(0, 1).chunk(len(keys))):
        columns = torch.nn.functional.pad(keys[group], (0, 2), value=1.0).T
        for rows in torch.split(askers, max(1, _SCORES_AT_ONCE // columns.shape[1])):
            best[group] = torch.maximum(best[group], (rows @ columns).amax(0).float().exp())


def _at_once(runner: Runner, asked: Sequence[int]) -> int:
    """Most tokens to say again at once; with the request they are a chunk as reading has them, which fills a GPU."""
    device = runner.model.device
    return CHUNK_TOKENS if device.type == "cpu" else chunk_tokens(device) - len(asked)


def _fastest(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, float, Tensor], None]:
    if why_not_triton(device):
        return column_max
    # Needs Triton, which not every machine has.
    from engine.kernels.attention import column_max as kernel

    return kernel.column_max


def _asked(runner: Runner, lead: Sequence[int]) -> list[int]:
    """Ids of the request to repeat, from some words on, up to where the model begins to speak."""
    tokenizer = runner.model.tokenizer
    asked = [*tokenizer.encode(_ASKED_ON)[0], *lead] if lead else tokenizer.encode(_ASKED)[0]
    return [*asked, *tokenizer.user_turn()[1]]
