"""A question by steps with the real kernels, against the plain way: where it looks, and the answer that goes on."""

from collections.abc import Sequence
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest
import torch

from engine.compression.compress import pack_pod
from engine.core.sampling import SamplingParams
from engine.evidence.calibration import passage
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import parse
from engine.runtime import graph_runner
from engine.runtime.generate import Question, Step, generate
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import read, runner_of, some_ids

pytestmark = pytest.mark.usefixtures("quick_interpreter")

HEADS = [(1, 3), (0, 1), (1, 0)]
TWO = SamplingParams(max_tokens=2)


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu) if torch.cuda.is_available() else "cpu"])
def plain(request: pytest.FixtureRequest, one_thread: None) -> Runner:
    """In float32; on the CPU where kernels are interpreted, on the GPU where they are compiled."""
    return Runner(replace(runner_of(tiny.llama(layers=2).to(request.param)).model, stop_ids=frozenset()))


@pytest.fixture
def steps(plain: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """With little room, since where there is no GPU kernels are interpreted."""
    monkeypatch.setattr("engine.runtime.runner.SUFFIX_TOKENS", 16)
    monkeypatch.setattr(graph_runner, "BUCKETS", (1, 4))
    runner = runner_of(plain.model.network, graphs=True)
    return Runner(replace(runner.model, stop_ids=frozenset()), graphs=True)


def packed(runner: Runner, tokens: int, recipe: str) -> AnyPod:
    exact = read(runner, some_ids(runner, tokens, tokens), tokens)
    if recipe == "exact":
        return exact
    shape, parsed = runner.model.shape, parse(recipe)
    generator = torch.Generator().manual_seed(tokens)
    worth = torch.rand(shape.layers, shape.kv_heads, tokens, generator=generator).to(runner.model.device)
    roots = tuple((layer,) * shape.kv_heads for layer in range(shape.layers))
    return pack_pod(exact, Layout(parsed, roots), Scores(tokens, worth) if parsed.selection.drops else None)


def assert_same(found: Sequence[Step], wanted: Sequence[Step]) -> None:
    assert [step.token_id for step in found] == [step.token_id for step in wanted]
    logprobs = [[step.logprob for step in each] for each in (found, wanted)]
    np.testing.assert_allclose(*logprobs, atol=1e-3)


def asked(runner: Runner, pods: Sequence[AnyPod], ids: Sequence[int], params: SamplingParams | None) -> list[object]:
    with Question(runner, pods, ids, HEADS, params) as question:
        found: list[object] = [np.concatenate(question.attention())]
        return [*found, list(question.steps()) if params else []]


@pytest.mark.parametrize(
    ("kinds", "tokens"),
    [(("exact",), 1), pytest.param(("exact", "keep50:random+k4v4h+near4,16"), 6, marks=pytest.mark.slow)],
)
def test_the_answer_goes_on_from_the_step_that_looked(
    kinds: tuple[str, ...], tokens: int, plain: Runner, steps: Runner
) -> None:
    """A question of one token, and one of two runs of which the second is padded."""
    pods = [packed(plain, 60 + 20 * number, kind) for number, kind in enumerate(kinds)]
    ids = some_ids(plain, tokens, 2)
    wanted, found = (asked(runner, pods, ids, TWO) for runner in (plain, steps))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-3, atol=1e-6)
    assert wanted[0].max() > 0.01 and len(wanted[1]) == 2
    assert_same(found[1], wanted[1])
    assert_same(found[1], list(generate(plain, pods, ids, TWO)))
    assert steps.fallbacks.reasons == ()


@pytest.mark.slow
def test_a_step_that_only_looks_sees_the_same(plain: Runner, steps: Runner) -> None:
    pods, ids = [packed(plain, 60, "k8v4+near4,16")], some_ids(plain, 3, 2)
    (wanted, _), (looked, nothing) = asked(plain, pods, ids, SamplingParams(1)), asked(steps, pods, ids, None)
    np.testing.assert_allclose(looked, wanted, rtol=1e-3, atol=1e-6)
    assert nothing == [] and steps.fallbacks.reasons == ()


@pytest.mark.slow
def test_a_passage_is_answered_by_steps(plain: Runner, steps: Runner) -> None:
    """Of a pod that is in few bits, and whose KV heads kept different slots."""
    pod = passage(packed(plain, 90, "keep50:random+k4v4h+near4,16"), 6, 30, 61)
    ids = some_ids(plain, 4, 2)
    assert_same(list(generate(steps, [pod], ids, TWO)), list(generate(plain, [pod], ids, TWO)))
    assert steps.fallbacks.reasons == ()


def test_nothing_is_fed_twice_and_the_next_question_finds_all_free(plain: Runner, steps: Runner) -> None:
    pod, ids, fed = packed(plain, 60, "exact"), some_ids(plain, 1, 2), []
    runner = steps.graph_runner
    assert runner is not None
    ask = runner.ask
    runner.ask = lambda *facts: fed.append(facts[1]) or ask(*facts)  # type: ignore[method-assign]
    with Question(steps, [pod], ids, HEADS, SamplingParams(max_tokens=1)) as question:
        assert fed == [], "only what is wanted is worked out"
        first = question.attention()
        assert len(list(question.steps())) == 1
        assert fed == [ids]
        # Whoever comes back after its end, as after too little memory, begins anew.
        assert np.array_equal(question.attention()[0], first[0]) and len(fed) == 2
        assert runner.claim([pod], 1, 2) == "another question is being answered"
    assert runner.claim([pod], 1, 2) == ""
    # One that ends in a moment is waited for.
    Timer(0.05, runner.release).start()
    assert runner.claim([pod], 1, 2) == ""
    runner.release()


def test_a_question_that_is_stopped_before_it_begins_costs_nothing(plain: Runner, steps: Runner) -> None:
    for runner in (plain, steps):
        with Question(runner, [], [5], params=TWO) as question:
            assert list(question.steps(lambda: True)) == []
            assert question._fed is None
