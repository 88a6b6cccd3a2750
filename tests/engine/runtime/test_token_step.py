"""One token in one call: the answers of the plain way, whatever its weights are kept as, or the plain way itself."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from engine.kernels.cpu.sizes import SLOTS
from engine.kvcache.exact import Pod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import runner_of
from tests.pairwise import pairwise

pytest.importorskip("numba")

FAMILIES = {"llama": tiny.llama, "mistral": tiny.mistral, "qwen2": tiny.qwen2, "qwen3": tiny.qwen3}


def as_bfloat16(network: Any) -> Any:
    """The network with weights as checkpoints have them, in float32."""
    return network.bfloat16().float()


def as_gguf(network: Any) -> Any:
    """And its layers' weights as a file in 4 bits has them."""
    for name, parameter in as_bfloat16(network).named_parameters():
        if "proj.weight" in name:
            kind = GGMLQuantizationType["Q4_0" if "q_proj" in name else "Q4_1"]
            numbers = dequantize(quantize(parameter.detach().numpy(), kind), kind)
            parameter.data = torch.from_numpy(np.ascontiguousarray(numbers)).bfloat16().float()
    return network


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """More of them than there are tasks at times, and perhaps than there are processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random_pod(runner: Runner, tokens: int) -> Pod:
    shape, generator = runner.model.shape, torch.Generator().manual_seed(tokens)
    size = (shape.layers, shape.kv_heads, tokens, shape.head_dim)
    keys, values = (torch.randn(size, generator=generator) for _ in range(2))
    return Pod(keys, values, torch.arange(tokens), tokens)


def asked(runner: Runner, pods: list[Pod], question: int) -> Context:
    context = runner.context(pods, SuffixCache(runner.model.shape, question + 30, runner.model.device))
    runner.run(context, [index % 250 for index in range(question)])
    return context


@pytest.mark.parametrize(
    ("family", "kept", "threads"), pairwise(tuple(FAMILIES), (as_bfloat16, as_gguf), (1, 3)), indirect=["threads"]
)
def test_the_answer_is_that_of_the_plain_way(family: str, kept: Callable[[Any], Any], threads: int) -> None:
    network = kept(FAMILIES[family]())
    model = runner_of(network).model
    plain, quick = Runner(model), Runner(model, steps=True)
    assert not quick.fallbacks.reasons and "one call a token" in quick.backend
    pods = [random_pod(plain, SLOTS + 44), random_pod(plain, 7).select(torch.tensor([1, 2, 5]))]
    wanted, found = (asked(runner, pods, SLOTS - 3) for runner in (plain, quick))
    token = 5
    for _ in range(8):
        # The tail grows beyond a piece.
        expected, logits = plain.run(wanted, [token]), quick.run(found, [token])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=2e-5)
        token = int(expected.argmax())
        assert int(logits.argmax()) == token
    for mine, its in zip(found.suffix.groups[0], wanted.suffix.groups[0], strict=True):
        held = slice(0, found.suffix.length)
        torch.testing.assert_close(mine[:, :, held], its[:, :, held], rtol=1e-4, atol=5e-5)


def test_codes_take_less_memory() -> None:
    halves, codes = (Runner(runner_of(kept(tiny.llama())).model, steps=True) for kept in (as_bfloat16, as_gguf))
    assert codes.token_bytes < halves.token_bytes


def test_what_kernels_do_not_know_goes_the_plain_way() -> None:
    model = runner_of(as_bfloat16(tiny.llama())).model
    quick, pod = Runner(model, steps=True), random_pod(Runner(model), 20)
    context = quick.context([pod], SuffixCache(model.shape, 9, model.device), [(1, 0)], ends=False)
    quick.run(context, [3])
    assert context.probs[1, 0][0].shape == (1, 20)
    # Rows that do not lie one behind the other.
    spread = Pod(torch.cat([pod.keys, pod.keys], 3)[..., : pod.keys.shape[3]], pod.values, pod.positions, 20)
    logits = [
        quick.run(quick.context([each], SuffixCache(model.shape, 9, model.device)), [3]) for each in (pod, spread)
    ]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("network", "why"),
    [(tiny.llama, "bfloat16"), (lambda: as_bfloat16(tiny.phi3()), "whole heads"), (None, "[cpu]")],
    ids=["float32", "half a head turned", "no Numba"],
)
def test_a_model_or_machine_that_it_is_not_for_is_said(
    network: Callable[[], Any] | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if network is None:
        network = tiny.llama
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    runner = Runner(runner_of(network()).model, steps=True)
    assert why in runner.backend.partition("answers: plain PyTorch, because ")[2]
