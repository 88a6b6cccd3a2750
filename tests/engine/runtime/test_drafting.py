"""Drafted answers are those of the plain loop, token by token, whatever is guessed; and take fewer steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.core.errors import WindowExceeded
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.models.decoder import flatten
from engine.runtime.drafting import DRAFTED, Drafter, kept
from engine.runtime.generate import Question, Step
from engine.runtime.graph_runner import through
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.models.test_decoder import network_of
from tests.engine.reading import read, runner_of, some_ids
from tests.engine.runtime.stepping import COLD, WARM, assert_same, packed, stepped, steps, table_of, without_stops
from tests.engine.runtime.test_generate import Turns

LONG = SamplingParams(max_tokens=40)


def drafted(
    runner: Runner, pods: Sequence[Pod], ids: list[int], params: SamplingParams, source: Sequence[int]
) -> list[Step]:
    with Question(runner, pods, ids, params=params) as question:
        return list(question.steps(drafter=Drafter(source)))


def counted(runner: Runner) -> tuple[Any, list[int]]:
    """A forward, and how many tokens each of its calls takes."""
    inner, calls = through(runner.model.network), []

    def forward(ids: Tensor, positions: Tensor, memory: Any, last: int | Tensor) -> Tensor:
        calls.append(len(ids))
        return inner(ids, positions, memory, last)

    return forward, calls


def quoting(answer: Sequence[int], run: int, wrong: int) -> list[int]:
    """A source that holds every second run of an answer, and goes on otherwise."""
    return [token for start in range(0, len(answer), 2 * run) for token in [*answer[start : start + run], wrong]]


def test_what_followed_the_last_two_tokens_is_guessed() -> None:
    drafter = Drafter([1, 2, 3, 4, 5, 9, 2, 3, 6, 7])
    assert drafter.guess() == []
    for token in (2, 3):
        drafter.add(token)
    assert drafter.guess() == [6, 7, 2], "of two places the last one"
    drafter.add(4)
    assert drafter.guess() == [5, 9, 2]
    drafter.add(8)
    assert drafter.guess() == []


def test_an_answer_is_a_source_of_its_own() -> None:
    drafter = Drafter([])
    for token in (1, 2, 3, 1, 2):
        assert drafter.guess() == []
        drafter.add(token)
    assert drafter.guess() == [3, 1, 2]


@pytest.mark.parametrize(("guess", "count"), [([], 1), ([8], 1), ([5], 2), ([5, 6, 8], 3), ([5, 6, 7], 4), ([8, 6], 1)])
def test_a_guess_is_kept_as_far_as_it_is_right(guess: list[int], count: int) -> None:
    choices = [(5, -0.5), (6, -0.25), (7, -0.125), (4, -1.0)]
    assert kept(guess, choices) == choices[:count]


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("asked", [1, 9, 70])
def test_no_token_changes_and_steps_are_spared(plain: Runner, pods: list[Pod], asked: int, ahead: bool) -> None:
    """From what holds all of the answer, half of it in runs, another answer, and nothing."""
    question = some_ids(plain, asked, 2)
    wanted = steps(plain, pods[:1], question, LONG)
    answer = [step.token_id for step in wanted]
    taken = []
    for source in ([*question[-1:], *answer], quoting(answer, 6, 3), some_ids(plain, 500, 9), []):
        forward, calls = counted(plain)
        runner = stepped(plain, ahead, forward)
        assert_same(drafted(runner, pods[:1], question, LONG, source), wanted)
        taken.append(len(calls) - calls.index(1 if 1 in calls else DRAFTED))
        assert table_of(runner).left <= asked + LONG.max_tokens
    assert taken[0] <= LONG.max_tokens // 3 and taken[0] < taken[1] < taken[3] <= LONG.max_tokens


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "mistral", "phi3"])
def test_of_every_family(case: str, one_thread: None) -> None:
    """By the flat loop, over two documents."""
    plain = without_stops(runner_of(network_of(case)))
    flat = flatten(plain.model)
    assert flat is not None
    memory, question = [read(plain, some_ids(plain, count, count)) for count in (60, 90)], some_ids(plain, 7, 3)
    wanted = steps(plain, memory, question, LONG)
    source = quoting([step.token_id for step in wanted], 8, 3)
    assert_same(drafted(stepped(plain, forward=flat.forward), memory, question, LONG, source), wanted, 1e-3)


@pytest.mark.parametrize("recipe", ["exact", "k4v4", "B35+k4v4h", "A35"])
def test_in_the_plain_loop_too(plain: Runner, pods: list[Pod], recipe: str) -> None:
    """Also over compressed pods; what was guessed wrong leaves nothing in the tail."""
    turns = Turns(plain.model.network)
    runner = Runner(replace(plain.model, network=turns))
    pod, question = pods[0] if recipe == "exact" else packed(plain, pods[0], recipe), some_ids(plain, 9, 2)
    wanted = steps(plain, [pod], question, LONG)
    answer, taken = [step.token_id for step in wanted], []
    for source in ([*question[-1:], *answer], quoting(answer, 6, 3), some_ids(plain, 500, 9)):
        turns.calls.clear()
        assert_same(drafted(runner, [pod], question, LONG, source), wanted)
        taken.append(len(turns.calls))
    assert taken[0] <= LONG.max_tokens // 3 and taken[0] < taken[1] < taken[2] <= LONG.max_tokens


def test_one_call_a_token_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels take a single token, several are not fed at once; but over pods that they do not know."""
    pytest.importorskip("numba")
    plain = without_stops(runner_of(tiny.llama().bfloat16().float()))
    runner, question = Runner(plain.model, steps=True), some_ids(plain, 9, 2)
    exact, seen = read(plain, some_ids(plain, 100, 1)), list[int]()
    score = runner.score
    monkeypatch.setattr(runner, "score", lambda context, ids, last: seen.append(last) or score(context, ids, last))
    for pod, most in ((exact, 1), (packed(plain, exact, "k8v8"), DRAFTED)):
        wanted = steps(plain, [pod], question, LONG)
        assert_same(drafted(runner, [pod], question, LONG, [step.token_id for step in wanted]), wanted, 1e-3)
        assert max(seen) == most


def test_drawn_tokens_are_not_guessed(plain: Runner, pods: list[Pod]) -> None:
    forward, calls = counted(plain)
    question = some_ids(plain, 8, 2)
    wanted = steps(plain, pods[:1], question, WARM)
    got = drafted(stepped(plain, forward=forward), pods[:1], question, WARM, [step.token_id for step in wanted])
    assert_same(got, wanted)
    assert DRAFTED not in calls


@pytest.mark.parametrize("place", range(3, 12))
def test_a_stop_token_ends_an_answer_inside_a_verified_run(plain: Runner, pods: list[Pod], place: int) -> None:
    question = some_ids(plain, 10, 2)
    free = steps(plain, pods[:1], question, COLD)
    answer = [step.token_id for step in free]
    first = answer.index(answer[place])
    runner = stepped(Runner(replace(plain.model, stop_ids=frozenset([answer[place]]))))
    for _ in range(2):
        assert_same(drafted(runner, pods[:1], question, COLD, answer), free[:first])


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("wanted", range(8))
def test_a_stopped_answer_ends_at_a_token_of_a_run(plain: Runner, pods: list[Pod], wanted: int, ahead: bool) -> None:
    question = some_ids(plain, 10, 2)
    free = steps(plain, pods[:1], question, COLD)
    forward, calls = counted(plain)
    runner = stepped(plain, ahead, forward)
    got: list[Step] = []
    with Question(runner, pods[:1], question, params=COLD) as asked:
        drafter = Drafter([step.token_id for step in free])
        for step in asked.steps(lambda: len(got) >= wanted, drafter):
            got.append(step)
    assert_same(got, free[:wanted])
    assert len(calls) <= wanted + (ahead and wanted > 0)
    assert_same(steps(runner, pods[1:2], question, COLD), steps(plain, pods[1:2], question, COLD))


@pytest.mark.parametrize("most", range(1, 10))
def test_no_answer_is_longer_than_it_may_be(plain: Runner, pods: list[Pod], most: int) -> None:
    question = some_ids(plain, 10, 2)
    answer = [step.token_id for step in steps(plain, pods[:1], question, LONG)]
    params = SamplingParams(max_tokens=most)
    assert_same(drafted(stepped(plain), pods[:1], question, params, answer), steps(plain, pods[:1], question, params))


@pytest.mark.parametrize("by_steps", [True, False])
def test_the_window_is_a_wall_at_the_same_token(llama_runner: Runner, by_steps: bool) -> None:
    pod = read(llama_runner, some_ids(llama_runner, 40, 1))
    plain = Runner(replace(llama_runner.model, stop_ids=frozenset()))
    question = some_ids(plain, 6, 2)
    answer = [step.token_id for step in steps(plain, [pod], question, COLD)]
    for window in range(46, 58):
        narrow = Runner(replace(plain.model, window=window))
        runner = stepped(narrow) if by_steps else narrow
        got: list[Step] = []
        asked = Question(runner, [pod], question, params=COLD)
        with asked, pytest.raises(WindowExceeded, match=f"{window + 1} positions"):
            got.extend(asked.steps(drafter=Drafter(answer)))
        assert [step.token_id for step in got] == answer[: window - 45]


def test_a_capture_in_the_middle_of_an_answer_changes_nothing(
    plain: Runner, pods: list[Pod], recording: list[str]
) -> None:
    runner, question = stepped(plain), some_ids(plain, 10, 2)
    assert runner.graph_runner is not None
    runner.graph_runner.graphs.enabled = True
    wanted = steps(plain, pods[:1], question, LONG)
    source = quoting([step.token_id for step in wanted], 8, 3)
    for _ in range(2):
        assert_same(drafted(runner, pods[:1], question, LONG, source), wanted)
    assert len(recording) == 3, "of the question, of single tokens, and of a guess"


def test_with_the_real_kernels(quick_interpreter: None, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers and with little room, since kernels are interpreted where there is no GPU."""
    monkeypatch.setattr("engine.runtime.runner.SUFFIX_TOKENS", 24)
    plain = without_stops(runner_of(tiny.llama(layers=2)))
    runner = Runner(plain.model, graphs=True)
    pod, question, params = read(plain, some_ids(plain, 40, 1), 40), some_ids(plain, 2, 2), SamplingParams(6)
    wanted = steps(plain, [pod], question, params)
    seen = []
    assert runner.graph_runner is not None
    verified = runner.graph_runner._verified
    monkeypatch.setattr(runner.graph_runner, "_verified", lambda *guess: seen.append(verified(*guess)) or seen[-1])
    assert_same(drafted(runner, [pod], question, params, [*question, *(s.token_id for s in wanted)]), wanted, 1e-3)
    assert [len(run) for run in seen] == [DRAFTED]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("ahead", [True, False])
def test_in_graphs_on_a_gpu(ahead: bool) -> None:
    """In float32, where rounding decides nothing: a graph of guesses beside that of single tokens, and any kernels."""
    plain = without_stops(runner_of(tiny.llama().to("cuda")))
    pod, question = read(plain, some_ids(plain, 100, 1)), some_ids(plain, 30, 2)
    wanted = steps(plain, [pod], question, LONG)
    for runner in (stepped(plain, ahead), Runner(plain.model, graphs=True)):
        assert runner.graph_runner is not None
        for run in (4, 8, 40):
            source = quoting([step.token_id for step in wanted], run, 3)
            assert_same(drafted(runner, [pod], question, LONG, source), wanted, 1e-3)
        assert runner.graph_runner.graphs.captures and runner.fallbacks.reasons == ()
