"""The decode loop: from a question's ids over some pods to a stream of steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.core.sampling import SamplingParams, generator_of, sample
from engine.kvcache.quantized import AnyPod, PackedPod
from engine.kvcache.suffix import Tail
from engine.runtime.context import Head, Looked
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Step:
    """One generated token."""

    token_id: int
    logprob: float


def looks(
    runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head]
) -> Mapping[Head, Sequence[Tensor]]:
    """Per head and pod: attention mass (Q, T) of a question's tokens on the pod's. The pods stay untouched."""
    context = runner.context(pods, Tail(runner.model.shape, len(ids), runner.model.device), heads)
    with suppress(Looked):
        runner.run(context, ids)
    return context.looks


def look(runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], heads: Sequence[Head]) -> list[list[float]]:
    """Where the model looks while it takes in a question, before it says a word.

    Per pod and token: the attention mass of the question token that looks there most, as the mean over the heads.
    """
    seen = looks(runner, pods, ids, heads)
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
    stepper = runner.stepper
    if stepper is not None:
        # Kernels predict no keys.
        pods = [pod.open() if isinstance(pod, PackedPod) and pod.layout.maps else pod for pod in pods]
    if stepper is not None and not stepper.claim(pods, len(ids), params.max_tokens):
        stepper = None
    try:
        chosen = stepper.tokens(pods, ids, params, stopped) if stepper else _plain(runner, pods, ids, params, stopped)
        for token, logprob in chosen:
            if token in runner.model.stop_ids:
                return
            yield Step(token, logprob)
    finally:
        if stepper:
            stepper.release()


def _plain(
    runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], params: SamplingParams, stopped: Callable[[], bool]
) -> Iterator[tuple[int, float]]:
    """Tokens with their log-probabilities, each chosen on the host before the model is called again."""
    generator = generator_of(params)
    tail = Tail(runner.model.shape, len(ids) + params.max_tokens, runner.model.device)
    # Unpacked once instead of once per token.
    context = runner.context([pod.open() for pod in pods] if params.max_tokens > 1 else pods, tail)
    feed = list(ids)
    for _ in range(params.max_tokens):
        if stopped():
            return
        token, logprob = sample(runner.run(context, feed), params, generator)
        yield token, logprob
        feed = [token]
