"""Which runner a model gets: never one that could not answer."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.runtime import backend
from engine.runtime.fallbacks import Fallbacks
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import runner_of


def test_a_processor_gets_the_plain_one() -> None:
    assert backend.runner_for(runner_of(tiny.llama()).model).graph_runner is None


def test_an_answer_of_no_numbers_is_refused() -> None:
    network = tiny.llama()
    backend.try_out(runner_of(network))
    with torch.no_grad():
        network.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="no numbers"):
        backend.try_out(runner_of(network))


@pytest.mark.parametrize("failure", [None, RuntimeError("Failed to find C compiler"), torch.OutOfMemoryError("full")])
def test_kernels_that_do_not_run_here_are_left_out(
    failure: Exception | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[bool] = []

    def make(model: Any, graphs: bool = False) -> Any:
        made.append(graphs)
        return SimpleNamespace(graphs=graphs, fallbacks=Fallbacks())

    def try_out(runner: Runner) -> None:
        if failure:
            raise failure

    monkeypatch.setattr(backend, "Runner", make)
    monkeypatch.setattr(backend, "try_out", try_out)
    monkeypatch.setattr(backend, "why_not_triton", lambda device: "")
    model: Any = SimpleNamespace(device=torch.device("cuda"))
    with caplog.at_level(logging.WARNING):
        runner: Any = backend.runner_for(model)
    assert runner.graphs is (failure is None) and made == ([True] if failure is None else [True, False])
    said = (
        () if failure is None else (f"Everything goes without Triton's kernels: {type(failure).__name__}: {failure}",)
    )
    assert runner.fallbacks.reasons == said and tuple(each.getMessage() for each in caplog.records) == said
    monkeypatch.setattr(backend, "why_not_triton", lambda device: "this GPU is older than Ampere")
    made.clear()
    runner = backend.runner_for(model)
    assert made == [False] and "older than Ampere" in runner.fallbacks.reasons[0]
