"""The stepper against the plain loop, token by token; real graphs on a GPU, and what stands in for them on the CPU."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.core.errors import WindowExceeded
from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from engine.runtime.generate import Step, generate
from engine.runtime.graph_runner import through
from engine.runtime.runner import Runner
from tests.engine.reading import fingerprint, read, some_ids, some_maps
from tests.engine.runtime.stepping import COLD, TAIL, WARM, assert_same, packed, stepped, steps, table_of
from tests.engine.runtime.test_generate import Turns
from tests.engine.shapes import check


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("params", [COLD, WARM], ids=["cold", "warm"])
@pytest.mark.parametrize("asked", [1, 2, 8, 9, 40, 64, 65, 150])
def test_an_answer_is_that_of_the_plain_loop(
    plain: Runner, pods: list[Pod], asked: int, params: SamplingParams, ahead: bool
) -> None:
    """Questions of one token, of whole buckets, of padded ones, and of several runs."""
    question = some_ids(plain, asked, 2)
    runner = stepped(plain, ahead)
    assert_same(steps(runner, pods[:1], question, params), steps(plain, pods[:1], question, params))
    assert table_of(runner).sets == 1
    assert table_of(runner).left == asked + params.max_tokens - 1


@pytest.mark.parametrize("params", [COLD, WARM], ids=["cold", "warm"])
@pytest.mark.parametrize("text", ["k4v4", "k4v3h", "k8v8h", "B35", "B35+k4v4h"])
def test_compressed_pods_too(plain: Runner, pods: list[Pod], text: str, params: SamplingParams) -> None:
    memory = [packed(plain, pods[0], text), pods[1]]
    runner, question = stepped(plain), some_ids(plain, 20, 2)
    assert_same(steps(runner, memory, question, params), steps(plain, memory, question, params))
    assert table_of(runner).sets == 1


def test_predicted_keys_are_worked_out_once(plain: Runner, pods: list[Pod], monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels read keys, and predict none; what has been predicted goes with its pod."""
    maps = some_maps(plain)
    roots = tuple((root,) * plain.model.shape.kv_heads for root in maps.roots)
    memory = [pack_pod(pods[0], Layout(parse("linear35+k4v4h+near4,32"), roots, maps)), pods[1]]
    runner, question, taken = stepped(plain), some_ids(plain, 20, 2), []
    table = table_of(runner)
    why_not = table.why_not
    monkeypatch.setattr(table, "why_not", lambda pods: taken.append(list(pods)) or why_not(pods))
    wanted = steps(plain, memory, question, COLD)
    for _ in range(2):
        # The predicted keys are rounded once more, in another space.
        assert_same(steps(runner, memory, question, COLD), wanted, 1e-2)
    (first, exact), (again, _) = taken
    assert first is again and exact is pods[1] and first.layout.maps is None
    check(first)
    alive = weakref.ref(first)
    del first, again, memory, taken[:]
    gc.collect()
    assert alive() is None


def test_a_padded_question_asks_for_the_logits_of_one_token(plain: Runner, pods: list[Pod]) -> None:
    inner, asked = through(plain.model.network), []

    def forward(ids: Tensor, positions: Tensor, memory: Any, last: int | Tensor) -> Tensor:
        logits = inner(ids, positions, memory, last)
        asked.append((len(ids), len(logits)))
        return logits

    runner, question = stepped(plain, forward=forward), some_ids(plain, 100, 2)
    assert_same(steps(runner, pods[:1], question, COLD), steps(plain, pods[:1], question, COLD))
    assert asked == [(64, 1), (64, 1)] + [(1, 1)] * 15


def test_without_any_pod(plain: Runner) -> None:
    question = some_ids(plain, 20, 2)
    assert_same(steps(stepped(plain), [], question, COLD), steps(plain, [], question, COLD))


def test_what_does_not_fit_goes_the_plain_way(plain: Runner, pods: list[Pod]) -> None:
    runner, question = stepped(plain, max_tokens=200), some_ids(plain, 20, 2)
    shared = packed(plain, pods[0], "A35")
    long = some_ids(plain, TAIL - 10, 2)
    for memory, ids in (([shared], question), ([pods[2]], question), (pods[:1], long), ([shared], question)):
        assert steps(runner, memory, ids, COLD) == steps(plain, memory, ids, COLD)
    assert table_of(runner).sets == 0
    slow = "A question went the slow way: "
    long_one = f"a question and its answer are longer than the {TAIL} tokens that fit"
    assert runner.fallbacks.reasons == tuple(slow + each for each in ("shared keys", "too many tokens", long_one))
    steps(runner, pods[:1], question, COLD)
    assert table_of(runner).sets == 1, "none of them kept the stepper"


def test_documents_are_switched_back_and_forth(plain: Runner, pods: list[Pod]) -> None:
    """Nothing of one answer is left in another, and no pod changes."""
    before = [fingerprint(pod) for pod in pods]
    runner, question = stepped(plain), some_ids(plain, 30, 2)
    for memory in (pods[:1], pods[1:2], pods[:1], pods, pods[2:], pods[1:2]):
        for params in (COLD, WARM):
            assert_same(steps(runner, memory, question, params), steps(plain, memory, question, params))
    assert [fingerprint(pod) for pod in pods] == before


@pytest.mark.parametrize("place", [0, 1, 7])
def test_a_stop_token_ends_an_answer_though_a_step_more_was_launched(
    plain: Runner, pods: list[Pod], place: int
) -> None:
    question = some_ids(plain, 10, 2)
    free = steps(plain, pods[:1], question, COLD)
    stop = free[place].token_id
    first = [step.token_id for step in free].index(stop)
    runner = stepped(Runner(replace(plain.model, stop_ids=frozenset([stop]))))
    for _ in range(2):
        assert_same(steps(runner, pods[:1], question, COLD), free[:first])
        # The step that chose the stop token, and one that it was fed to.
        assert table_of(runner).left == 10 + first + 1


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("wanted", [0, 1, 5])
def test_a_stopped_answer_ends_at_a_token(plain: Runner, pods: list[Pod], wanted: int, ahead: bool) -> None:
    """No more than one step is made that nobody asked for; none for an answer that was stopped before it began."""
    turns = Turns(plain.model.network)
    runner, question = stepped(plain, ahead, through(turns)), some_ids(plain, 10, 2)
    answer: list[Step] = []
    for step in generate(runner, pods[:1], question, COLD, lambda: len(answer) >= wanted):
        answer.append(step)
    assert_same(answer, steps(plain, pods[:1], question, COLD)[:wanted])
    assert len(turns.calls) == wanted + (ahead and wanted > 0)


def test_a_dropped_answer_leaves_the_stepper_to_the_next(plain: Runner, pods: list[Pod]) -> None:
    runner, question = stepped(plain), some_ids(plain, 10, 2)
    for _ in range(2):
        answer = generate(runner, pods[:1], question, COLD)
        next(answer)
        answer.close()
    assert_same(steps(runner, pods[1:2], question, COLD), steps(plain, pods[1:2], question, COLD))
    assert table_of(runner).sets == 3


@pytest.mark.parametrize("ahead", [True, False])
def test_the_window_is_a_wall_at_the_same_token(llama_runner: Runner, ahead: bool) -> None:
    """A question whose padding would stand behind the window, and an answer that runs into it."""
    pod = read(llama_runner, some_ids(llama_runner, 40, 1))
    plain = Runner(replace(llama_runner.model, window=54, stop_ids=frozenset()))
    question = some_ids(plain, 11, 2)
    runner = stepped(plain, ahead)
    got: list[list[Step]] = [[], []]
    for each, answer in zip((runner, plain), got, strict=True):
        with pytest.raises(WindowExceeded, match="55 positions are needed, 54 are there"):
            for step in generate(each, [pod], question, COLD):
                answer.append(step)
    assert len(got[0]) == 4
    assert_same(*got)
    with pytest.raises(WindowExceeded, match="60 positions are needed, 54 are there"):
        steps(runner, [pod], some_ids(plain, 20, 2), COLD)
    short = replace(WARM, max_tokens=4)
    assert_same(steps(runner, [pod], question, short), steps(plain, [pod], question, short))


def test_two_answers_in_turn(plain: Runner, pods: list[Pod]) -> None:
    """While one has the stepper, the other goes the plain way; neither waits for the other."""
    runner, question = stepped(plain), some_ids(plain, 9, 5)
    warm, cold = generate(runner, pods[:1], question, WARM), generate(runner, pods[1:2], question, COLD)
    mixed = [(next(warm), next(cold)) for _ in range(16)]
    assert_same([each[0] for each in mixed], steps(plain, pods[:1], question, WARM))
    assert [each[1] for each in mixed] == steps(plain, pods[1:2], question, COLD)
    assert table_of(runner).sets == 1


def test_threads_take_turns_and_do_not_disturb_each_other(plain: Runner, pods: list[Pod]) -> None:
    turns = Turns(plain.model.network)
    runner = stepped(Runner(replace(plain.model, network=turns)), forward=through(turns))
    questions = [some_ids(plain, 9 + seed, seed) for seed in range(3)]
    start = threading.Barrier(3)

    def answer(number: int) -> list[Step]:
        start.wait()
        return steps(runner, [pods[number]], questions[number], WARM)

    with ThreadPoolExecutor(3) as threads:
        got = list(threads.map(answer, range(3)))
    for number in range(3):
        assert_same(got[number], steps(plain, [pods[number]], questions[number], WARM))
    assert turns.supports_pdl == 0
    assert table_of(runner).sets >= 1


def test_a_failed_step_leaves_the_stepper_usable(plain: Runner, pods: list[Pod]) -> None:
    """Where the model breaks in the middle of a question or of an answer, the next answer knows nothing of it."""
    inner, calls = through(plain.model.network), [0]

    def breaking(ids: Tensor, positions: Tensor, memory: Any, last: int) -> Tensor:
        calls[0] += 1
        if calls[0] in (2, 6):
            raise RuntimeError("out of memory, say")
        return inner(ids, positions, memory, last)

    runner, question = stepped(plain, forward=breaking), some_ids(plain, 100, 2)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="say"):
            steps(runner, pods[:1], question, COLD)
    assert_same(steps(runner, pods[:1], question, WARM), steps(plain, pods[:1], question, WARM))
    assert table_of(runner).sets == 3
