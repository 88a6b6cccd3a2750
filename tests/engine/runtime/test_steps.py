"""Answers by steps with the real kernels, against the plain loop: the same tokens from the same pods."""

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import equivalence
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.subject import random_model
from engine.compression.compress import pack_pod
from engine.core.sampling import SamplingParams
from engine.kernels.attention.kv_ranges import QUERY
from engine.kernels.card import Card
from engine.kernels.linear.int8_lm_head import Int8Head
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.models.decoder import FlatModel
from engine.models.ops_triton import TritonOps
from engine.runtime.generate import generate
from engine.runtime.kv_table import KVTable
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.models import test_decoder
from tests.engine.models.test_decoder import by_network, network_of
from tests.engine.models.test_ops_triton import in_float32
from tests.engine.reading import read, runner_of, some_ids

pytestmark = pytest.mark.usefixtures("quick_interpreter")

SHARED = ((0, 0), (0, 1), (2, 1), (2, 1))


def pods(runner: Runner) -> list[AnyPod]:
    """One exact pod, and one in few bits whose layers share scores."""
    exact = read(runner, some_ids(runner, 40, 1), 40)
    return [exact, pack_pod(exact, Layout(parse("A35+k8v4h+near2,4"), SHARED))]


def test_steps_with_kernels_say_what_the_plain_loop_says(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short, of two layers and with little room, since kernels are interpreted where there is no GPU."""
    monkeypatch.setattr("engine.runtime.runner.SUFFIX_TOKENS", 16)
    plain = runner_of(tiny.llama(layers=2))
    steps = runner_of(plain.model.network, graphs=True)
    assert "Triton" in steps.backend and "Triton" not in plain.backend
    assert steps.graph_runner is not None
    question, params = some_ids(plain, 2, 2), SamplingParams(max_tokens=2)
    exact = read(plain, some_ids(plain, 40, 1), 40)
    pod = pack_pod(exact, Layout(parse("A35+k8v4h+near2,4"), ((0, 0), (0, 1))))
    assert steps.graph_runner.claim([pod], len(question), 2) == ""
    steps.graph_runner.release()
    wanted, found = (list(generate(runner, [pod], question, params)) for runner in (plain, steps))
    assert [step.token_id for step in found] == [step.token_id for step in wanted]
    logprobs = torch.tensor([[step.logprob for step in each] for each in (found, wanted)])
    torch.testing.assert_close(logprobs[0], logprobs[1], rtol=1e-3, atol=1e-3)


CASES = ["llama with biases", "llama, scaled", "llama 3", "llama, yarn", "qwen2", "qwen3", "mistral"]


def logits(flat: FlatModel, table: KVTable, ids: list[int]) -> Tensor:
    """Logits (V,) of the last of some tokens in a table, which keeps them."""
    with torch.inference_mode():
        found = flat.forward(torch.tensor(ids), table.positions(len(ids)), table, 1)[0]
        table.advance(len(ids))
        table.length += len(ids)
    return found


@pytest.mark.parametrize("case", CASES)
def test_heads_that_the_table_norms_and_turns_are_those_of_transformers(
    case: str, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """A question of several tokens and single ones, behind a document."""
    runner = runner_of(network_of(case))
    theirs, shape = by_network(runner), runner.model.shape
    pod = read(runner, some_ids(runner, 60, 1), 60)
    table, suffix = KVTable(shape, 4, 16, runner.model.device, max_new=8), SuffixCache(shape, 16, runner.model.device)
    monkeypatch.setattr(table, "attend", lambda *rest: pytest.fail("heads were turned one by one"))
    table.set([pod])
    assert runner._flat is not None
    for ids in (some_ids(runner, 5, 2), [7], [9]):
        wanted = theirs.run(theirs.context([pod], suffix), ids)
        assert wanted.std() > 0.5
        torch.testing.assert_close(logits(runner._flat, table, ids), wanted, rtol=1e-4, atol=1e-4)


def test_angles_that_depend_on_the_length_are_worked_out_anew(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """There is no table of them."""
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    monkeypatch.setitem(test_decoder.CASES, "moving", (*test_decoder.CASES["llama"][:2], {"rope_parameters": rope}))
    runner = runner_of(network_of("moving"))
    table = KVTable(runner.model.shape, 4, 16, runner.model.device, max_new=8)
    theirs, suffix = by_network(runner), SuffixCache(runner.model.shape, 16, runner.model.device)
    assert runner._flat is not None
    monkeypatch.setattr(runner._flat, "_fused", lambda *rest: pytest.fail("a table of angles"))
    ids = some_ids(runner, 5, 2)
    wanted = theirs.run(theirs.context([], suffix), ids)
    torch.testing.assert_close(logits(runner._flat, table, ids), wanted, rtol=1e-4, atol=1e-4)


class Operations(TorchDispatchMode):
    """The names of PyTorch's operations that are called in here, which are launches of their own on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_a_step_is_kernels_and_hardly_anything_else(one_thread: None) -> None:
    """In four bits: between the embedding and the choice of a token PyTorch launches nothing; the head is quick."""
    small = SHAPES["qwen3-4b"].small()
    options = {**small.options, "num_hidden_layers": 1, "hidden_size": 128, "intermediate_size": 128}
    shape = replace(small, options=options)
    model = in_float32(random_model(shape, "nf4", torch.device("cpu"), equivalence.SPREAD))
    plain, runner = Runner(model), Runner(model, graphs=True, int8_head=True)
    question, params = some_ids(runner, 2, 2), SamplingParams(max_tokens=2)
    exact = read(runner, some_ids(runner, 40, 1), 40)
    wanted, found = (list(generate(each, [exact], question, params)) for each in (plain, runner))
    assert [step.token_id for step in found] == [step.token_id for step in wanted]
    assert runner.graph_runner is not None
    runner.graph_runner._table.set([exact])
    with torch.inference_mode(), Operations() as seen:
        runner.graph_runner._step(1, False)
    # The interpreter copies what a kernel reads and writes.
    choice = {"log_softmax", "argmax", "gather"}
    assert seen.names - {"empty", "new_empty", "set_", "copy_"} == {"embedding", *choice}


def test_an_int8_head_serves_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it is wanted: by default on a GPU alone, and not by several rows, which are to be scored."""
    monkeypatch.setattr("engine.models.ops_triton.INT8_HEAD_BYTES", 0)
    said: list[tuple[str, int]] = []
    quick, plain = "engine.kernels.linear.int8_lm_head.logits", "engine.models.ops.PlainOps.logits"
    monkeypatch.setattr(quick, lambda x, *rest: said.append(("quick", len(x))))
    monkeypatch.setattr(plain, lambda self, x, *rest: said.append(("exact", len(x))))
    module, norm = torch.nn.Linear(64, 100, bias=False), (torch.ones(64), 1e-5)
    for wish in (True, False, None):
        ops = TritonOps(int8_head=wish)
        head = ops.take_head(module)
        assert ("8 bits" in ops.name) == bool(wish)
        # A byte for four, and two for the scale of 32.
        assert ops.spared_bytes == (100 * 64 * (4 - 1 - 2 / 32) if wish else 0)
        for rows in (1, 2):
            ops.logits(torch.zeros(rows, 64), head, norm)
    exactly = [("exact", 1), ("exact", 2)]
    assert said == [("quick", 1), ("exact", 2), *exactly, *exactly]
    assert TritonOps(int8_head=True).take_head(torch.nn.Linear(64, 10))[1] is None, "it has a bias"


@pytest.mark.gpu
def test_large_heads_are_quick_on_a_gpu() -> None:
    for rows, quick in ((49_152, False), (100_000, True)):
        ops = TritonOps()
        head = ops.take_head(torch.nn.Linear(512, rows, bias=False, device="cuda", dtype=torch.bfloat16))
        assert (head[1] is not None) == ("8 bits" in ops.name) == quick


def test_no_memory_for_an_int8_head(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(exact: torch.Tensor) -> Int8Head:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("engine.models.ops_triton.quantize_head", refuse)
    ops = TritonOps(int8_head=True)
    assert ops.take_head(torch.nn.Linear(64, 100, bias=False))[1] is None
    assert "8 bits" not in ops.name and "no memory to hold it in 8 bits" in caplog.text


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), True), ((8, 9), False), ((0, 0), False)])
def test_launches_overlap_where_the_gpu_can(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every product of few rows in four bits is told so; a wish decides."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("engine.models.ops_triton.card_of", lambda device: Card(capability, 1 << 17))
    said: list[bool] = []
    for name in ("linear", "gated"):
        monkeypatch.setattr(f"engine.kernels.linear.linear.{name}", lambda *rest, pdl, **more: said.append(pdl))
    x, weights = torch.zeros(1, 64), [(None, "packed")] * 2
    for wish in (None, True, False):
        ops = TritonOps(wish)
        ops.linear(x, weights)
        ops.gated(x, *weights)
        assert ("overlap" in ops.name) == ops.pdl
    assert said == [expected, expected, True, True, False, False]


def test_the_same_pods_are_put_into_the_tables_once(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they were let go in between, as after every answer, or where others came in between."""
    shape = llama_runner.model.shape
    table = KVTable(shape, 4, 64, llama_runner.model.device)
    filled: list[int] = []
    fill = table._fill
    monkeypatch.setattr(table, "_fill", lambda pods: filled.append(len(pods)) or fill(pods))
    exact, four = pods(llama_runner)
    places = []
    for asked in ([four], [exact], [exact], [four], [exact, four], [four, exact], [exact], [four], [], []):
        table.set(asked)
        assert table.pods == tuple(asked)
        places.append((table._narrow.pieces.tolist(), table._wide.ranges.tolist(), table.bucket))
        table.forget()
        assert table.pods == ()
    # The last four are known.
    assert filled == [1, 1, 2, 2, 0]
    assert places[1] == places[2] == places[6] and places[0] == places[3] == places[7] and places[8] == places[9]
    assert len({str(each) for each in places}) == 5


def test_plans_are_made_anew_once_queries_stand_elsewhere(llama_runner: Runner) -> None:
    """Pods whose layers share scores need the queries of all layers."""
    table = KVTable(llama_runner.model.shape, 4, 64, llama_runner.model.device)
    exact, shared = pods(llama_runner)
    other = KVTable(llama_runner.model.shape, 4, 64, llama_runner.model.device)
    for asked in ([exact], [shared], [exact]):
        table.set(asked)
    for asked in ([shared], [exact]):
        other.set(asked)
    # Addresses of the tails differ; where queries stand does not.
    assert table._wide.pieces[..., QUERY].tolist() == other._wide.pieces[..., QUERY].tolist()


def test_pods_that_are_let_go_are_freed_and_never_taken_for_others(llama_runner: Runner) -> None:
    """The tables hold numbers about them only; one that comes to stand at the address of another is read anew."""
    table = KVTable(llama_runner.model.shape, 4, 64, llama_runner.model.device)
    seen = []
    for tokens in (40, 50):
        exact = read(llama_runner, some_ids(llama_runner, tokens, 1), tokens)
        assert not table.why_not([exact])
        table.set([exact])
        seen.append((table.positions(1).item(), table._narrow.slots.tolist()))
        alive = weakref.ref(exact)
        table.forget()
        del exact
        gc.collect()
        assert alive() is None and len(table._rows) == 0
    assert seen == [(40, [[40, 40]] * 4), (50, [[50, 50]] * 4)]
