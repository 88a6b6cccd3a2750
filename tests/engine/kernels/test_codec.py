"""Reading over a packed past with kernels: what plain PyTorch makes of it."""

from types import ModuleType

import pytest
import torch

from engine.core import quant
from engine.core.quant import dequantize
from engine.kernels import quant as kernels
from engine.kvcache import quantized_store
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.recipe import parse
from engine.runtime.kv_table import KVTable
from engine.runtime.prefill import quantizing_context
from engine.runtime.prefill.builder import builder_for
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import runner_of, some_ids


@pytest.mark.parametrize("recipe", ("k4v4hs", "k8v8s", "k3v4hs", "k16v8s"))
def test_the_same_pod(recipe: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(tiny.llama().to(device))
    ids = some_ids(runner, 233, 1)
    monkeypatch.setattr(quantizing_context, "RUN_TOKENS", 128)
    ours, plain = (read(runner, recipe, ids, each, monkeypatch) for each in (kernels, quant))
    assert ours.nbytes == plain.nbytes
    for one, other in zip(ours.distant, plain.distant, strict=True):
        for a, b in zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True):
            away = (dequantize(a, torch.float32) - dequantize(b, torch.float32)).abs()
            # A rotation sums in another order, so a code may differ by one where a number lies between two.
            assert (away > 0.02).float().mean() < 0.02
    torch.testing.assert_close(ours.proximal.values, plain.proximal.values, rtol=0.05, atol=0.05)
    # Kernels can answer from where reading left it.
    assert KVTable(runner.model.shape, 4, 16, device).why_not([ours]) == ""


def read(
    runner: Runner, recipe: str, ids: list[int], used: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> QuantizedPod:
    monkeypatch.setattr(quantized_store, "_codec", lambda device: used)
    builder = builder_for(runner, len(ids), Layout(parse(f"{recipe}+near4,32"), ((0, 0), (1, 1), (2, 2), (3, 3))))
    while builder.num_read < len(ids):
        builder.feed(ids[builder.num_read : builder.cut(100)])
    pod = builder.finish()
    assert isinstance(pod, QuantizedPod)
    return pod
