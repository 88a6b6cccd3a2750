"""Graph runners over a plain table, and the answers of the plain loop beside them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.compression.compress import pack_pod
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import parse
from engine.runtime.generate import Step, generate
from engine.runtime.graph_runner import Forward, GraphRunner, through
from engine.runtime.runner import Runner
from tests.engine.runtime.plain_table import PlainTable

WARM = SamplingParams(max_tokens=16, temperature=0.8, top_p=0.9, seed=3)
COLD = SamplingParams(max_tokens=16)
TAIL = 300


def stepped(
    plain: Runner,
    ahead: bool = True,
    forward: Forward | None = None,
    max_tokens: int = 512,
    failures: tuple[type[Exception], ...] = (),
) -> Runner:
    """A runner of the same model that has a stepper, over a plain table."""
    runner, model = Runner(plain.model), plain.model
    table = PlainTable(model.shape, TAIL, model.device, max_tokens)
    forward = forward or through(model.network)
    runner.graph_runner = GraphRunner(
        forward, table, TAIL, model.window, model.device, runner.lock, ahead, runner.fallbacks, failures
    )
    return runner


def table_of(runner: Runner) -> PlainTable:
    assert runner.graph_runner is not None
    table = runner.graph_runner._table
    assert isinstance(table, PlainTable)
    return table


def without_stops(runner: Runner) -> Runner:
    return Runner(replace(runner.model, stop_ids=frozenset()))


def steps(runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], params: SamplingParams) -> list[Step]:
    return list(generate(runner, pods, ids, params))


def assert_same(got: Sequence[Step], wanted: Sequence[Step], within: float = 1e-4) -> None:
    """The same tokens; their log-probabilities are summed in another order."""
    assert [step.token_id for step in got] == [step.token_id for step in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=within)


def packed(runner: Runner, exact: Pod, text: str) -> AnyPod:
    """The pod by a recipe of explicit parts, without scores."""
    shape = runner.model.shape
    roots = tuple((layer - layer % 2 if "A" in text or "B" in text else layer,) * shape.kv_heads for layer in range(4))
    return pack_pod(exact, Layout(parse(f"{text}+near4,32"), roots))
