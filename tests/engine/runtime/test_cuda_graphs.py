"""Captures that are refused, for good or until there is memory, and as many as may be kept; without a GPU."""

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import oom
from engine.runtime import cuda_graphs
from engine.runtime.cuda_graphs import WARM_UPS, CudaGraphs
from engine.runtime.fallbacks import Fallbacks

CPU = torch.device("cpu")


class Uncompiled(Exception):
    """As Triton's errors, which are no RuntimeError."""


class Replay:
    """What stands in for a graph: it does the work again."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


def graphs_of(monkeypatch: pytest.MonkeyPatch, refuses: Callable[[], Exception | None], most: int = 9) -> CudaGraphs:
    """Those of a device that has none, whose captures are refused as `refuses` says, after the usual trials."""

    def capture(self: CudaGraphs, work: Callable[[], None]) -> Any:
        for _ in range(WARM_UPS):
            work()
        if error := refuses():
            raise error
        return Replay(work)

    monkeypatch.setattr(CudaGraphs, "_capture", capture)
    graphs = CudaGraphs(CPU, Fallbacks(), (Uncompiled,), most)
    graphs.enabled = True
    return graphs


def test_a_refused_capture_is_said_once_and_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was refused is not tried again, and is no reason not to try others; trials leave no trace."""
    refusals = [RuntimeError("not permitted\nmore"), Uncompiled("no"), RuntimeError("not permitted"), None]
    graphs, total = graphs_of(monkeypatch, lambda: refusals.pop(0)), torch.zeros(1)
    with caplog.at_level(logging.WARNING):
        for key in "abcdabcd":
            graphs.run(key, lambda: total.add_(1), (total,))
    assert (int(total), graphs.captures, refusals) == (8, 1, [])
    said = ["Answers go on without a CUDA graph: RuntimeError: not permitted"]
    said.append("Answers go on without a CUDA graph: Uncompiled: no")
    assert [record.getMessage() for record in caplog.records] == said == list(graphs._fallbacks.reasons)


def test_a_capture_that_found_no_memory_is_tried_again_once_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    free, tried = [0], []

    def refuses() -> Exception | None:
        tried.append(free[0])
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.") if free[0] < 2 << 30 else None

    graphs, total = graphs_of(monkeypatch, refuses), torch.zeros(1)
    for module in (cuda_graphs, oom):
        monkeypatch.setattr(module, "free_bytes", lambda device: free[0])
    for megabytes in (1024, 1030, 1024, 4096, 1024):
        free[0] = megabytes << 20
        for key in "ab":
            graphs.run(key, lambda: total.add_(1), (total,))
    assert tried == [1 << 30, 4 << 30, 4 << 30] and graphs.captures == 2
    assert int(total) == 10
    assert graphs._fallbacks.reasons == ("Answers go on without a new CUDA graph until memory is free: out of memory",)


def test_as_many_graphs_are_kept_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one used longest ago is let go of, and captured again where it is wanted again."""
    graphs, total = graphs_of(monkeypatch, lambda: None, most=2), torch.zeros(1)
    alive: dict[str, Any] = {}
    for key, captures in zip("abacab", (1, 2, 2, 3, 3, 4), strict=True):
        graphs.run(key, lambda: total.add_(1), (total,))
        alive[key] = weakref.ref(graphs._graphs[key])
        assert graphs.captures == captures
    gc.collect()
    assert {key for key, each in alive.items() if each()} == {"a", "b"} and int(total) == 6
