"""The decode loop: from a question's ids over some pods to a stream of steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.core.sampling import SamplingParams, generator_of, sample
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import EarlyExit, Head
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Step:
    """One generated token."""

    token_id: int
    logprob: float


def attention_probs(
    runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head]
) -> Mapping[Head, Sequence[Tensor]]:
    """Per head and pod: attention mass (Q, T) of a question's tokens on the pod's. The pods stay untouched."""
    context = runner.context(pods, SuffixCache(runner.model.shape, len(ids), runner.model.device), heads)
    with suppress(EarlyExit):
        runner.run(context, ids)
    return context.probs


def question_attention(
    runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head]
) -> list[list[float]]:
    """Where the model looks while it takes in a question, before it says a word.

    Per pod and token: the attention mass of the question token that looks there most, as the mean over the heads.
    """
    seen = attention_probs(runner, pods, ids, heads)
    return [torch.stack([seen[head][index] for head in heads]).mean(0).amax(0).tolist() for index in range(len(pods))]


def generate(
    runner: Runner,
    pods: Sequence[AnyPod],
    ids: Sequence[int],
    params: SamplingParams,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Answer token by token until a stop token, `max_tokens`, or `stopped()`; only a tail of its own is written.

    The runner's stepper serves one answer at a time, and what fits its tables; any other goes the plain way.
    """
    graph_runner = runner.graph_runner
    if graph_runner is not None:
        # Kernels predict no keys.
        pods = [pod.open() if isinstance(pod, QuantizedPod) and pod.layout.maps else pod for pod in pods]
    if graph_runner is not None and not graph_runner.claim(pods, len(ids), params.max_tokens):
        graph_runner = None
    try:
        chosen = (
            graph_runner.tokens(pods, ids, params, stopped)
            if graph_runner
            else _plain(runner, pods, ids, params, stopped)
        )
        for token, logprob in chosen:
            if token in runner.model.stop_ids:
                return
            yield Step(token, logprob)
    finally:
        if graph_runner:
            graph_runner.release()


def _plain(
    runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], params: SamplingParams, stopped: Callable[[], bool]
) -> Iterator[tuple[int, float]]:
    """Tokens with their log-probabilities, each chosen on the host before the model is called again."""
    generator = generator_of(params)
    suffix = SuffixCache(runner.model.shape, len(ids) + params.max_tokens, runner.model.device)
    # Unpacked once instead of once per token.
    context = runner.context([pod.open() for pod in pods] if params.max_tokens > 1 else pods, suffix)
    feed = list(ids)
    for _ in range(params.max_tokens):
        if stopped():
            return
        token, logprob = sample(runner.run(context, feed), params, generator)
        yield token, logprob
        feed = [token]
