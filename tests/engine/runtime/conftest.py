"""A runner whose answers no stop token ends, documents of several lengths, and captures without a GPU."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.kvcache.exact import Pod
from engine.runtime import cuda_graphs
from engine.runtime.runner import Runner
from tests.engine.reading import read, some_ids
from tests.engine.runtime.stepping import without_stops


@pytest.fixture
def plain(llama_runner: Runner) -> Runner:
    return without_stops(llama_runner)


@pytest.fixture
def pods(plain: Runner) -> list[Pod]:
    return [read(plain, some_ids(plain, count, count)) for count in (100, 150, 250)]


class Replay:
    """What stands in for a graph on the CPU: it does the work again."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Captures succeed on the CPU, after the same trials as on a GPU."""
    seen: list[str] = []

    def capture(self: cuda_graphs.CudaGraphs, work: Callable[[], None]) -> Any:
        for _ in range(cuda_graphs.WARM_UPS):
            work()
        seen.append("captured")
        return Replay(work)

    monkeypatch.setattr(cuda_graphs.CudaGraphs, "_capture", capture)
    return seen
