"""How alike the layers of a model look at a text: the measurement behind PoD's blocks (arXiv 2412.02252, stage 1).

The attention of the last tokens of some samples is compared between every two layers, head by head, in the dense,
unmodified model. Letters: L layers, H query heads, G KV heads, D head size, Q compared tokens, T tokens of a sample.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.core.errors import CalibrationFailed
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.runner import Runner

CHUNK_TOKENS = 512


@dataclass(frozen=True)
class RowSample:
    """What is compared: the rows of the last `queries` tokens over the distant tokens, renormalised.

    Distant from token i are the tokens j with sinks <= j <= i - recent: those whose keys can be shared. `whole_row`
    compares all tokens instead; the first token, which every layer looks at, then makes all layers look alike.
    """

    queries: int = 64
    sinks: int = 16
    recent: int = 256
    whole_row: bool = False
    weakest: bool = False
    """A KV head is as similar as the least similar of its query heads, instead of their mean."""

    @property
    def min_tokens(self) -> int:
        """The shortest sample in which every compared token has a distant one."""
        return self.queries + (0 if self.whole_row else self.sinks + self.recent)


def measure(runner: Runner, samples: Iterable[Sequence[int]], view: RowSample) -> Iterator[Tensor]:
    """Similarity (G, L, L) in float32 on the CPU over the samples so far, after each sample of token ids.

    Similarity is 1 - the mean Jensen-Shannon divergence in bits: 1 for layers that look alike, 0 for layers that look
    at different tokens. Raises CalibrationFailed for a sample that is too short, WindowExceeded for one too long.
    """
    total = torch.zeros(())
    for count, ids in enumerate(samples, start=1):
        total = total + _divergence(runner, ids, view)
        alike = 1 - (total / count).view(runner.model.shape.kv_heads, -1, *total.shape[1:])
        yield alike.amin(1) if view.weakest else alike.mean(1)


def jensen_shannon(rows: Tensor) -> Tensor:
    """Jensen-Shannon divergence (L, L) in bits between every two layers' distributions (L, Q, T), as the mean over Q.

    It is the entropy of the mixture of two distributions less the mean of their entropies, between 0 and 1.
    """
    layers, queries, _ = rows.shape
    total = rows.new_zeros(layers, layers)
    # One token at a time: the rows of all layers then stay in the processor's cache.
    for row in rows.unbind(1):
        entropy = _entropy(row)
        for layer in range(layers - 1):
            mixture = _entropy((row[layer] + row[layer + 1 :]) / 2)
            total[layer, layer + 1 :] += mixture - (entropy[layer] + entropy[layer + 1 :]) / 2
    # Rounding leaves identical rows a little off.
    mean = (total / queries).clamp(0, 1)
    return mean + mean.T


def _entropy(rows: Tensor) -> Tensor:
    return -(rows * rows.clamp_min(torch.finfo(rows.dtype).tiny).log2()).sum(-1)


class _LastQueries(Context):
    """Attention as ever, with the queries (H, Q, D) of the last call's tokens kept for every layer."""

    def __init__(self, runner: Runner, num_tokens: int) -> None:
        plain = runner.context((), SuffixCache(runner.model.shape, num_tokens, runner.model.device))
        super().__init__(plain.pods, plain.suffix, plain.attention)
        self.queries: dict[int, Tensor] = {}
        self.scale = 1.0

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        self.queries[layer] = query.clone()
        self.scale = scale
        return super().attend(layer, query, keys, values, scale)


def _divergence(runner: Runner, ids: Sequence[int], view: RowSample) -> Tensor:
    """Divergence (H, L, L) over one sample, in float32 on the CPU."""
    if len(ids) < view.min_tokens:
        raise CalibrationFailed(
            f"a sample of {len(ids)} tokens is too short to compare {view.queries} of them over distant tokens; "
            f"take samples of {view.min_tokens} tokens or more"
        )
    seen = _LastQueries(runner, len(ids))
    body = len(ids) - view.queries
    for start in range(0, body, CHUNK_TOKENS):
        runner.run(seen, ids[start : min(start + CHUNK_TOKENS, body)])
    runner.run(seen, ids[body:])
    queries = torch.stack([seen.queries[layer] for layer in range(runner.model.shape.layers)])
    heads = []
    # The keys lie in the tail, so only one head's rows (L, Q, T) exist at a time.
    for group, of_group in enumerate(queries.chunk(runner.model.shape.kv_heads, 1)):
        keys = seen.suffix.keys[:, group].float().transpose(1, 2)
        for query in of_group.unbind(1):
            heads.append(jensen_shannon(_rows(query.float() @ keys * seen.scale, view)).cpu())
    return torch.stack(heads)


def _rows(logits: Tensor, view: RowSample) -> Tensor:
    """Attention (L, Q, T) of the last Q tokens from their logits, over the tokens of the view."""
    _, queries, tokens = logits.shape
    position = torch.arange(tokens, device=logits.device)
    age = position[tokens - queries :, None] - position
    hidden = age < 0 if view.whole_row else (age < view.recent) | (position < view.sinks)
    return logits.masked_fill(hidden, float("-inf")).softmax(-1)
