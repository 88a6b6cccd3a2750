"""Model work: what answers ask of the model, in this process or in a replica elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.oom_retry import OomRetry
from app.reader_model import Loaded
from engine.core.sampling import SamplingParams
from engine.evidence.calibration import passage
from engine.kvcache.quantized import AnyPod
from engine.kvcache.readers import over
from engine.runtime.context import Head
from engine.runtime.generate import Question, Step
from engine.runtime.prefill.builder import PodBuilder


class OpenQuestion(AbstractContextManager["OpenQuestion"], Protocol):
    """As `Question` describes each verb."""

    def begin(self) -> None: ...
    def attention(self) -> list[NDArray[np.float32]]: ...
    def steps(self, stopped: Callable[[], bool] = ..., /) -> Iterator[Step]: ...


class ModelWork:
    """The model of this process, for whoever answers."""

    def __init__(self, loaded: Loaded, oom_retry: OomRetry) -> None:
        self._loaded, self._oom_retry = loaded, oom_retry

    def question(
        self,
        pods: Sequence[AnyPod],
        ids: Sequence[int],
        heads: Sequence[Head] = (),
        params: SamplingParams | None = None,
        reader: str = "",
    ) -> OpenQuestion:
        """A question over pods, as the reader of this name reads them. Raises PodMismatch where it cannot."""
        runner = self._loaded.runner
        return Question(runner, over(pods, reader, runner.model.shape.layers), ids, heads, params)

    def short(self, ids: Sequence[int]) -> AnyPod:
        """The pod of a short text, for one question. Raises OutOfMemory."""
        builder = PodBuilder(self._loaded.runner, len(ids))
        self._oom_retry.run(lambda: builder.feed(ids))
        return builder.finish()

    def passage(self, pod: AnyPod, head_tokens: int, first: int, last: int) -> AnyPod:
        """A pod restricted to a passage; see `engine.evidence.calibration`. Raises OutOfMemory."""
        return self._oom_retry.run(lambda: passage(pod, head_tokens, first, last))
