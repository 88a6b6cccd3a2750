"""Rehearsal: a hollow pod is one that the steps take, of the form of a real one, and needs next to no memory."""

from typing import Any

import pytest
import torch

from benchmarks.speed.random_pods import random_pod
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout, layout_of
from engine.kvcache.recipe import parse
from engine.offload.tensor_tree import tensors
from engine.runtime import warmup
from engine.runtime.generate import Question
from engine.runtime.runner import Runner
from engine.runtime.warmup import zero_pod
from tests.engine.reading import runner_of
from tests.engine.shapes import check


@pytest.mark.parametrize("recipe", ["exact", "k4v4hs", "k8v8", "k16v4h", "keep50+k8v4h"])
def test_a_hollow_pod_leads_to_the_steps_of_a_real_one(recipe: str, llama_runner: Runner) -> None:
    runner = runner_of(llama_runner.model.network, graphs=True)
    model, table = runner.model, runner.graph_runner._table
    layout = layout_of(model, parse(recipe))
    hollow, real = zero_pod(model.shape, layout, 900, model.device), random_pod(model, layout, 900)
    check(hollow)
    buckets = []
    for pod in (hollow, real):
        assert not table.why_not([pod])
        table.set([pod])
        buckets.append(table.bucket)
    assert buckets[0] == buckets[1]
    held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors(hollow)}
    shape = model.shape
    assert sum(held.values()) < 4 * real.nbytes / (shape.layers * shape.kv_heads)


def test_a_coded_pod_is_exact_in_memory(llama_runner: Runner) -> None:
    """Kernels of another form would be compiled and captured for nothing."""
    shape, roots = llama_runner.model.shape, layout_of(llama_runner.model, parse("exact")).roots
    hollow = zero_pod(shape, Layout(parse("coded16+near4,1"), roots), 300, llama_runner.model.device)
    assert isinstance(hollow, Pod) and len(hollow.positions) == 300


@pytest.mark.parametrize("whole", [True, False])
def test_questions_of_every_length_are_tried_out(
    whole: bool, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at over two sections, and answered from them or from a passage."""
    layout = layout_of(llama_runner.model, parse("keep50+k4v4h+near4,32"))
    asked: list[tuple[int, int, bool, bool]] = []

    class Noted(Question):
        def __init__(self, runner: Runner, pods: Any, ids: Any, heads: Any = (), params: Any = None) -> None:
            asked.append((len(ids), sum(pod.num_tokens for pod in pods), bool(heads), params is not None))
            # The plain way is the same, and need not be interpreted.
            super().__init__(llama_runner, pods, ids, heads, params)

    monkeypatch.setattr(warmup, "Question", Noted)
    steps = runner_of(llama_runner.model.network, graphs=True)
    for runner, lengths, tokens in ((llama_runner, [8], 256), (steps, [1, 8, 32, 64], 400)):
        warmup.warm_up(runner, layout, tokens, [(1, 0), (2, 3)], whole)
        expected = [
            each
            for length in lengths
            for each in ([(length, 2 * tokens, True, whole)] + ([] if whole else [(length, 256, False, True)]))
        ]
        assert asked == expected
        asked.clear()
    assert steps.fallbacks.reasons == ()


def test_pods_that_give_no_numbers_are_refused(llama_runner: Runner) -> None:
    network = llama_runner.model.network
    with torch.no_grad():
        network.lm_head.weight.fill_(float("nan"))
    runner, layout = runner_of(network, graphs=True), layout_of(llama_runner.model, parse("k4v4+near4,32"))
    table = runner.graph_runner._table
    warmup._answer(
        Question(llama_runner, [], [5], params=SamplingParams(1)),
        [zero_pod(runner.model.shape, layout, 100, runner.model.device)],
        runner,
    )
    assert "no numbers" in table.why_not([random_pod(runner.model, layout, 90)])
    assert table.why_not([random_pod(runner.model, layout_of(runner.model, parse("exact")), 90)]) == ""
    assert runner.fallbacks.reasons == ("Pods of a format go the slow way: an answer's probabilities are no numbers",)
