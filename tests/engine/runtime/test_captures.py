"""Steps captured in CUDA graphs: real ones on a GPU, and what stands in for them on the CPU."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.core.sampling import SamplingParams
from engine.kvcache.exact import Pod
from engine.models import loader
from engine.runtime import cuda_graphs
from engine.runtime.generate import generate
from engine.runtime.graph_runner import BUCKETS, through
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import read, runner_of, some_ids
from tests.engine.runtime.stepping import COLD, TAIL, WARM, assert_same, stepped, steps, table_of, without_stops


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
def test_graphs_and_the_plain_loop_choose_alike(gpu_runner: Runner) -> None:
    """In float32, where rounding decides nothing."""
    plain = without_stops(runner_of(tiny.llama().to("cuda")))
    pod, question = read(plain, some_ids(plain, 100, 1)), some_ids(plain, 30, 2)
    runner = stepped(plain)
    for params in (COLD, WARM, replace(WARM, seed=4, temperature=1.2)):
        assert_same(steps(runner, [pod], question, params), steps(plain, [pod], question, params), 1e-3)
    assert runner.graph_runner is not None and runner.graph_runner.graphs.captures == 4


@pytest.mark.gpu
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
def test_four_bit_weights_can_be_captured(tiny_model_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plain = without_stops(Runner(loader.load(str(tiny_model_dir), tmp_path, print)))
    pod, question = read(plain, some_ids(plain, 100, 1)), some_ids(plain, 30, 2)
    runner = stepped(plain)
    for params in (COLD, WARM):
        assert_same(steps(runner, [pod], question, params), steps(eager(plain), [pod], question, params), 1e-3)
    assert runner.graph_runner is not None
    assert (runner.graph_runner.graphs.captures, runner.fallbacks.reasons) == (4, ())
