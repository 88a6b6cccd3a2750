"""Rehearsal: a hollow pod is one that the steps take, of the form of a real one, and needs next to no memory."""

import pytest

from benchmarks.speed.random_pods import random_pod
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.offload.tensor_tree import tensors
from engine.runtime.runner import Runner
from engine.runtime.warmup import warm_up, zero_pod
from tests.engine.reading import runner_of


@pytest.mark.parametrize("recipe", ["exact", "k4v4hs", "k8v8", "k16v4h", "keep50+k8v4h"])
def test_a_hollow_pod_leads_to_the_steps_of_a_real_one(recipe: str, llama_runner: Runner) -> None:
    runner = runner_of(llama_runner.model.network, graphs=True)
    model, table = runner.model, runner.graph_runner._table
    layout = layout_of(model, parse(recipe))
    hollow, real = zero_pod(model.shape, layout, 900, model.device), random_pod(model, layout, 900)
    hollow.check()
    buckets = []
    for pod in (hollow, real):
        assert table.fits([pod])
        table.set([pod])
        buckets.append(table.bucket)
    assert buckets[0] == buckets[1]
    held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors(hollow)}
    shape = model.shape
    assert sum(held.values()) < 4 * real.nbytes / (shape.layers * shape.kv_heads)


def test_answers_of_every_length_are_tried_out(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(llama_runner.model, parse("k4v4hs"))
    asked: list[int] = []
    monkeypatch.setattr(
        "engine.runtime.warmup.generate", lambda runner, pods, ids, params: asked.append(len(ids)) or ()
    )
    warm_up(llama_runner, layout, 400)
    assert asked == [], "nothing is captured without a stepper"
    warm_up(runner_of(llama_runner.model.network, graphs=True), layout, 400)
    assert asked == [8, 32, 64]
