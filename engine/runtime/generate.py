"""A question over some pods: its tokens go through the model once, and give where it looks and the answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.core.sampling import SamplingParams, generator_of, sample
from engine.kvcache.quantized import AnyPod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context, EarlyExit, Head
from engine.runtime.graph_runner import GraphRunner
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


class Question:
    """A question that is fed when something of it is first wanted; only a tail of its own is written.

    Without `params` no answer follows, and the model is left behind the last of the heads. The runner's graph runner
    serves one question at a time, and what fits its tables; any other goes the plain way, which is noted. Whoever has
    a question must `close` it, or use it as a context manager.
    """

    def __init__(
        self,
        runner: Runner,
        pods: Sequence[AnyPod],
        ids: Sequence[int],
        heads: Sequence[Head] = (),
        params: SamplingParams | None = None,
    ) -> None:
        self._runner, self._pods, self._ids = runner, pods, ids
        self._heads, self._params = tuple(heads), params
        self._fed: GraphRunner | tuple[Context, Tensor | None] | None = None
        """What has taken the question in: the graph runner, or a context and the logits of the last token."""

    def __enter__(self) -> "Question":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pods and of the graph runner."""
        fed, self._fed = self._fed, None
        if isinstance(fed, GraphRunner):
            fed.release()

    def begin(self) -> None:
        """Let the model take the question in; on a GPU that is launched, and not waited for. Raises WindowExceeded."""
        self._feed()

    def attention(self) -> list[NDArray[np.float32]]:
        """Where the model looks while it takes in the question, before it says a word: per pod (T,).

        Of each token the attention probability of the question's token that looks there most, as the mean over the
        heads. Raises WindowExceeded.
        """
        fed = self._feed()
        if isinstance(fed, GraphRunner):
            return [each.numpy() for each in fed.attention()]
        probs = fed[0].probs
        every = [torch.stack([probs[head][index] for head in self._heads]) for index in range(len(self._pods))]
        return [each.mean(0).amax(0).cpu().numpy() for each in every]

    def steps(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """The answer, token by token until a stop token, `max_tokens` or `stopped()`. Raises WindowExceeded."""
        if stopped():
            return
        fed = self._feed()
        try:
            for token, logprob in fed.tokens(stopped) if isinstance(fed, GraphRunner) else self._plain(*fed, stopped):
                if token in self._runner.model.stop_ids:
                    return
                yield Step(token, logprob)
        finally:
            self.close()

    def _feed(self) -> GraphRunner | tuple[Context, Tensor | None]:
        if self._fed is None:
            self._fed = self._by_graphs() or self._plainly()
        return self._fed

    def _by_graphs(self) -> GraphRunner | None:
        """The graph runner with the question in its tables; None where it cannot take it."""
        graph_runner = self._runner.graph_runner
        if graph_runner is None:
            return None
        pods = graph_runner.readable(self._pods)
        reason = graph_runner.claim(pods, len(self._ids), self._params.max_tokens if self._params else 1)
        if not reason:
            fed = False
            try:
                graph_runner.ask(pods, self._ids, self._heads, self._params)
                fed = True
                return graph_runner
            except graph_runner.failures as error:
                reason = graph_runner.refuse(pods, error)
            finally:
                if not fed:
                    graph_runner.release()
        self._runner.fallbacks.note("A question went the slow way", reason)
        return None

    def _plainly(self) -> tuple[Context, Tensor | None]:
        """A context that has taken in the question, and the logits (V,) of its last token if an answer follows."""
        params, model = self._params, self._runner.model
        suffix = SuffixCache(model.shape, len(self._ids) + (params.max_tokens if params else 0), model.device)
        # Unpacked once instead of once per token.
        pods = [pod.open() for pod in self._pods] if params and params.max_tokens > 1 else self._pods
        context = self._runner.context(pods, suffix, self._heads, ends=params is None)
        logits = None
        with suppress(EarlyExit):
            logits = self._runner.run(context, self._ids)
        context.heads = ()
        return context, logits

    def _plain(
        self, context: Context, logits: Tensor | None, stopped: Callable[[], bool]
    ) -> Iterator[tuple[int, float]]:
        """Tokens with their log-probabilities, each chosen on the host before the model is called again."""
        assert self._params is not None and logits is not None
        generator = generator_of(self._params)
        for left in reversed(range(self._params.max_tokens)):
            token, logprob = sample(logits, self._params, generator)
            yield token, logprob
            if not left or stopped():
                return
            logits = self._runner.run(context, [token])


def generate(
    runner: Runner,
    pods: Sequence[AnyPod],
    ids: Sequence[int],
    params: SamplingParams,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Answer token by token until a stop token, `max_tokens`, or `stopped()`; only a tail of its own is written."""
    with Question(runner, pods, ids, params=params) as question:
        yield from question.steps(stopped)
