"""Where heads look, by a kernel, against what engine.runtime.context records."""

import pytest
import torch

from engine.core import lse
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context, EarlyExit
from engine.runtime.kv_table import KVTable
from tests.engine.kernels.pods import LAYERS, model, pod


@pytest.mark.parametrize(
    "kinds", (("exact",), ("k4v4h", "exact"), ("A35+keep40:random+k8v4", "k4v4"), ("k16v4", "k3v3"))
)
def test_looks_are_those_of_the_context(kinds: tuple[str, ...], device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    pods = [pod(of, kind, 150 + 20 * number) for number, kind in enumerate(kinds)]
    table = KVTable(of.shape, of.heads, 30, device, watched=range(LAYERS))
    table.set(pods)
    generator = torch.Generator().manual_seed(1)
    heads = [(1, 3), (0, 1), (1, 0)]
    suffix = SuffixCache(of.shape, 30, device)
    for count in (3, 20):
        context = Context(pods, suffix, lse.reference, heads)
        for layer in range(LAYERS):
            new = of.random(generator, of.heads, count), *of.random(generator, 2, 2, count)
            table.attend(layer, *new, 0.125)
            if layer == LAYERS - 1:
                with pytest.raises(EarlyExit):
                    context.attend(layer, *new, 0.125)
            else:
                context.attend(layer, *new, 0.125)
        for layer, head in heads:
            got = table.look(layer, head, count, 0.125)
            for ours, theirs in zip(got, context.probs[layer, head], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
            assert 0.5 < sum(float(each.sum()) for each in got) / count < 1
        suffix.advance(count)
        table.advance(count)
        table.length += count
