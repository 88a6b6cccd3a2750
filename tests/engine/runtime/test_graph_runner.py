"""The stepper against the plain loop, token by token; real graphs on a GPU, and what stands in for them on the CPU."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.core.errors import WindowExceeded
from engine.core.sampling import SamplingParams, greedy
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import parse
from engine.models import loader
from engine.runtime import cuda_graphs
from engine.runtime.generate import Step, generate
from engine.runtime.graph_runner import BUCKETS, Forward, GraphRunner, through
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import fingerprint, read, runner_of, some_ids, some_maps
from tests.engine.runtime.plain_table import PlainTable
from tests.engine.runtime.test_generate import Turns

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
        forward, table, TAIL, model.window, model.device, runner.lock, ahead, greedy, runner.fallbacks, failures
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


@pytest.fixture
def plain(llama_runner: Runner) -> Runner:
    return without_stops(llama_runner)


@pytest.fixture
def pods(plain: Runner) -> list[Pod]:
    return [read(plain, some_ids(plain, count, count)) for count in (100, 150, 250)]


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
    first.check()
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


def willing(runner: Runner) -> cuda_graphs.CudaGraphs:
    """The runner's graphs, on a device that has none, ready to try."""
    assert runner.graph_runner is not None
    runner.graph_runner.graphs.enabled = True
    return runner.graph_runner.graphs


def test_a_capture_in_the_middle_of_an_answer_changes_nothing(
    plain: Runner, pods: list[Pod], recording: list[str]
) -> None:
    """What is tried out before a capture chooses tokens and counts them, which must not be seen afterwards."""
    for params in (COLD, WARM):
        runner, question = stepped(plain), some_ids(plain, 100, 2)
        willing(runner)
        assert_same(steps(runner, pods[:1], question, params), steps(plain, pods[:1], question, params))
    # For each kind of choice: runs of 64 tokens and the rest of 36 in the same bucket, and single tokens.
    assert len(recording) == 4


def test_only_another_bucket_is_captured_again(plain: Runner, pods: list[Pod], recording: list[str]) -> None:
    runner, question = stepped(plain), some_ids(plain, 10, 2)
    seen = willing(runner)
    counts = []
    # 100 tokens fit one bucket of the table; 150 and 250 another, which they share.
    for pod in (pods[0], pods[1], pods[2], pods[0], pods[2], pods[1]):
        assert_same(steps(runner, [pod], question, COLD), steps(plain, [pod], question, COLD))
        counts.append(seen.captures)
    assert counts == [2, 4, 4, 4, 4, 4]
    steps(runner, pods[:1], question[:5], COLD)
    assert seen.captures == 5, "a shorter bucket of the question, and the same single tokens"
    steps(runner, pods[:1], question, WARM)
    steps(runner, pods[:1], question, replace(WARM, temperature=0.3, top_p=0.5, seed=9))
    assert seen.captures == 7, "one for every temperature"


class Uncompiled(Exception):
    """As Triton's errors, which are no RuntimeError."""


def test_pods_whose_kernels_do_not_compile_go_the_plain_way(plain: Runner, pods: list[Pod]) -> None:
    """Others go on by steps."""
    inner, broken = through(plain.model.network), [True]

    def forward(ids: Tensor, positions: Tensor, memory: Any, last: int | Tensor) -> Tensor:
        if broken[0]:
            raise Uncompiled("out of resource: shared memory\nmore")
        return inner(ids, positions, memory, last)

    runner, question, refused = stepped(plain, forward=forward, failures=(Uncompiled,)), some_ids(plain, 20, 2), []
    table = table_of(runner)
    table.refuse = lambda pods, reason: refused.append((list(pods), reason))  # type: ignore[method-assign]
    assert steps(runner, pods[:1], question, COLD) == steps(plain, pods[:1], question, COLD)
    assert refused == [(pods[:1], "Uncompiled: out of resource: shared memory")]
    assert runner.fallbacks.reasons == (f"A question went the slow way: {refused[0][1]}",)
    broken[0] = False
    assert_same(steps(runner, pods[1:2], question, COLD), steps(plain, pods[1:2], question, COLD))
    assert table.sets == 2 and len(runner.fallbacks.reasons) == 1


@pytest.mark.parametrize("params", [COLD, WARM], ids=["cold", "warm"])
def test_a_long_answer_is_captured_once_and_never_waits_inside(
    plain: Runner, pods: list[Pod], recording: list[str], params: SamplingParams
) -> None:
    """A capture for the question, one for all tokens; between tokens the runner is everybody's."""
    runner, question = stepped(plain), some_ids(plain, 20, 2)
    seen = willing(runner)
    captures, held = [], []
    for _ in generate(runner, pods[:1], question, replace(params, max_tokens=200)):
        captures.append(seen.captures)
        held.append(runner.lock.locked())
    assert captures == [2] * 200 and not any(held)


def test_an_answer_as_long_as_the_tail_has_a_number_for_every_token(
    plain: Runner, pods: list[Pod], recording: list[str]
) -> None:
    """Also while steps are tried out, which draw more."""
    params = replace(WARM, max_tokens=TAIL - 1)
    runner = stepped(plain)
    willing(runner)
    got = steps(runner, pods[:1], [5], params)
    assert len(got) == TAIL - 1
    # Tokens that are as likely as each other may change places later on.
    assert_same(got[:100], steps(plain, pods[:1], [5], params)[:100])


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture
def gpu_runner() -> Runner:
    return without_stops(runner_of(tiny.llama().to("cuda", torch.bfloat16)))


def eager(plain: Runner) -> Runner:
    """The same stepper, without a graph."""
    runner = stepped(plain)
    assert runner.graph_runner is not None
    runner.graph_runner.graphs.enabled = False
    return runner


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("params", [replace(COLD, max_tokens=40), replace(WARM, max_tokens=40)], ids=["cold", "warm"])
def test_graphs_say_what_their_steps_say(gpu_runner: Runner, params: SamplingParams) -> None:
    """Documents and questions of several lengths, switched back and forth: a capture a bucket, no more."""
    runner, without = stepped(gpu_runner), eager(gpu_runner)
    pods = [read(gpu_runner, some_ids(gpu_runner, count, count)) for count in (100, 150, 250)]
    captured = set()
    for asked in (1, 5, 30, 64, 150):
        question = some_ids(gpu_runner, asked, asked)
        for memory in (pods[:1], pods[1:2], pods[2:], pods[:1], pods):
            got = steps(runner, memory, question, params)
            assert_same(got, steps(without, memory, question, params), 1e-3)
            assert got == steps(runner, memory, question, params)
            rows = 1 << sum(pod.num_tokens for pod in memory).bit_length()
            runs = {min(asked, 64), *([asked % 64] if asked > 64 else [])}
            captured |= {(next(each for each in BUCKETS if each >= run), rows) for run in runs} | {(1, rows)}
    assert runner.graph_runner is not None and without.graph_runner is not None
    assert runner.fallbacks.reasons == ()
    assert runner.graph_runner.graphs.captures == len(captured)
    assert without.graph_runner.graphs.captures == 0


@pytest.mark.gpu
@on_gpu
def test_graphs_and_the_plain_loop_choose_alike(gpu_runner: Runner) -> None:
    """In float32, where rounding decides nothing."""
    plain = without_stops(runner_of(tiny.llama().to("cuda")))
    pod, question = read(plain, some_ids(plain, 100, 1)), some_ids(plain, 30, 2)
    runner = stepped(plain)
    for params in (COLD, WARM, replace(WARM, seed=4, temperature=1.2)):
        assert_same(steps(runner, [pod], question, params), steps(plain, [pod], question, params), 1e-3)
    assert runner.graph_runner is not None and runner.graph_runner.graphs.captures == 4


@pytest.mark.gpu
@on_gpu
def test_a_model_that_waits_for_the_host_runs_without_graphs(
    gpu_runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """A capture is refused in its middle: the answer is right, the device serves on, and so do its graphs."""
    inner = through(gpu_runner.model.network)

    def waiting(ids: Tensor, positions: Tensor, memory: Any, last: int) -> Tensor:
        logits = inner(ids, positions, memory, last)
        return logits + float(logits.sum()) * 0

    pod, question = read(gpu_runner, some_ids(gpu_runner, 100, 1)), some_ids(gpu_runner, 30, 2)
    expected = steps(eager(gpu_runner), [pod], question, WARM)
    runner = stepped(gpu_runner, forward=waiting)
    stream = torch.cuda.current_stream()
    with caplog.at_level(logging.WARNING):
        assert_same(steps(runner, [pod], question, WARM), expected, 1e-3)
    assert runner.graph_runner is not None
    assert runner.fallbacks.reasons and runner.graph_runner.graphs.captures == 0
    assert len(caplog.records) == 1
    assert torch.cuda.current_stream() == stream
    held = torch.cuda.memory_reserved()
    big = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    del big
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= held, "freed memory goes back"
    again = stepped(gpu_runner)
    assert_same(steps(again, [pod], question, WARM), expected, 1e-3)
    assert again.graph_runner is not None and again.graph_runner.graphs.captures == 2


@pytest.mark.gpu
@on_gpu
def test_four_bit_weights_can_be_captured(tiny_model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plain = without_stops(Runner(loader.load(str(tiny_model_dir), tmp_path, print)))
    pod, question = read(plain, some_ids(plain, 100, 1)), some_ids(plain, 30, 2)
    runner = stepped(plain)
    for params in (COLD, WARM):
        assert_same(steps(runner, [pod], question, params), steps(eager(plain), [pod], question, params), 1e-3)
    assert runner.graph_runner is not None
    assert (runner.graph_runner.graphs.captures, runner.fallbacks.reasons) == (4, ())
