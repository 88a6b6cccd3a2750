"""Where heads look, by kernels while a step goes through a table, against what engine.runtime.context records."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.core import lse
from engine.kvcache.quantized import AnyPod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context, EarlyExit
from engine.runtime.kv_table import KVTable
from tests.engine.kernels.pods import LAYERS, Model, model, pod

HEADS = [(1, 3), (0, 1), (1, 0)]


def wanted(context: Context, pods: Sequence[AnyPod], real: int) -> list[Tensor]:
    """Mean over heads, then the most that one of the first tokens gave."""
    probs = [torch.stack([context.probs[head][index][:real] for head in HEADS]) for index in range(len(pods))]
    return [each.mean(0).amax(0) for each in probs]


def step(table: KVTable, context: Context, of: Model, generator: torch.Generator, bucket: int, real: int) -> None:
    """The same new tokens through both, of which those behind `real` are padding."""
    table.probe.start()
    for layer in range(LAYERS):
        new = of.random(generator, of.heads, bucket), *of.random(generator, 2, 2, bucket)
        table.attend(layer, *new, 0.125)
        context.attend(layer, *(each[:, :real] for each in new), 0.125)
    table.probe.finish(bucket, torch.tensor([real - 1], device=of.device) if bucket > 1 else 1)
    context.suffix.advance(real)
    table.advance(real)
    table.length += real


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("exact",), marks=pytest.mark.slow),
        pytest.param(("k4v4h", "exact"), marks=pytest.mark.slow),
        ("A35+keep40:random+k8v4", "k4v4"),
        pytest.param(("k16v4", "k3v3"), marks=pytest.mark.slow),
        ("keep40:random+k4v4h", "passage", "exact"),
    ],
    ids="+".join,
)
def test_peaks_over_several_steps_are_those_of_the_context(kinds: tuple[str, ...], device: torch.device) -> None:
    """Padding does not count, and neither does what was seen before the pods were watched."""
    of = model(2, 2, 64, torch.float32, device)
    some = pod(of, "keep40:random+k4v4h", 190).select(torch.arange(3, 160))
    pods = [some if kind == "passage" else pod(of, kind, 150 + 20 * number) for number, kind in enumerate(kinds)]
    table = KVTable(of.shape, of.heads, 50, device)
    generator = torch.Generator().manual_seed(1)
    for other, steps in (([pod(of, "exact", 90)], ((2, 2),)), (pods, ((8, 5), (10, 10), (1, 1)))):
        table.set(other)
        table.probe.watch(other, HEADS, False)
        context = Context(other, SuffixCache(of.shape, 50, device), lse.reference, HEADS, ends=False)
        peaks: list[list[Tensor]] = []
        for bucket, real in steps:
            step(table, context, of, generator, bucket, real)
            peaks.append(wanted(context, other, real))
    for ours, theirs in zip(table.probe.read(), zip(*peaks, strict=True), strict=True):
        peak = torch.stack(theirs).amax(0)
        assert peak.max() > 0.01
        torch.testing.assert_close(ours, peak.cpu(), rtol=1e-4, atol=1e-6)


def test_a_step_that_only_looks_ends_behind_the_last_of_the_heads(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    table, held = KVTable(of.shape, of.heads, 30, device), pod(of, "exact", 40)
    table.set([held])
    new = torch.zeros(4, 3, 64, device=device), *torch.zeros(2, 2, 3, 64, device=device)
    table.probe.watch([held], [(0, 1), (0, 3)], True)
    with pytest.raises(EarlyExit):
        table.attend(0, *new, 1.0)
    table.probe.watch([held], [], True)
    table.attend(0, *new, 1.0)


def test_other_heads_or_more_tokens_are_another_bucket(device: torch.device) -> None:
    """What is captured points to tensors that go when they are made anew."""
    of = model(2, 2, 64, torch.float32, device)
    table, held = KVTable(of.shape, of.heads, 30, device), pod(of, "exact", 40)
    seen = []
    for pods, heads, ends in (
        ([held], [(0, 1)], False),
        ([held, held], [(0, 1)], False),
        ([held], [(0, 1)], True),
        ([held], [(1, 1)], False),
        ([held], [(0, 1)], False),
        ([held], [], False),
        ([held] * 16 * 10, [(0, 1)], False),
    ):
        table.probe.watch(pods, heads, ends)
        seen.append(table.bucket)
    assert seen[0] == seen[1] and len(set(seen)) == 6
