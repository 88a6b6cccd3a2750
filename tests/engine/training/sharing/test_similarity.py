"""How alike layers look: Jensen-Shannon divergence as defined, from the attention of plain transformers."""

import math

import pytest
import torch
from torch import Tensor

from engine.core.errors import CalibrationFailed
from engine.runtime.runner import Runner
from engine.training.sharing.similarity import RowSample, jensen_shannon, measure
from tests.engine.reading import some_ids


def divergence(p: Tensor, q: Tensor) -> float:
    """Of two distributions, term by term, in bits."""
    total = 0.0
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        m = (a + b) / 2
        total += sum(0.5 * each * math.log2(each / m) for each in (a, b) if each > 0)
    return total


def by_hand(runner: Runner, ids: list[int], view: RowSample) -> Tensor:
    """Similarity (G, L, L) in float64 from the attention that plain transformers gives out."""
    network = runner.model.network
    network.set_attn_implementation("eager")
    seen = network.double()(torch.tensor([ids]), output_attentions=True, use_cache=False).attentions
    network.float().set_attn_implementation("docpod")
    layers, heads, groups, tokens = len(seen), seen[0].shape[1], runner.model.shape.kv_heads, len(ids)
    rows = torch.zeros(layers, heads, view.queries, tokens, dtype=torch.float64)
    for layer, mass in enumerate(seen):
        for query in range(view.queries):
            i = tokens - view.queries + query
            keep = torch.zeros(tokens, dtype=torch.bool)
            for j in range(i + 1):
                keep[j] = view.whole_row or (j >= view.sinks and i - j >= view.recent)
            row = mass[0, :, i] * keep
            rows[layer, :, query] = row / row.sum(-1, keepdim=True)
    alike = torch.ones(heads, layers, layers, dtype=torch.float64)
    for head in range(heads):
        for a in range(layers):
            for b in range(a):
                each = [divergence(rows[a, head, query], rows[b, head, query]) for query in range(view.queries)]
                alike[head, a, b] = alike[head, b, a] = 1 - sum(each) / view.queries
    grouped = alike.view(groups, -1, layers, layers)
    return grouped.amin(1) if view.weakest else grouped.mean(1)


@pytest.mark.parametrize(
    "view",
    (RowSample(5, 4, 20), RowSample(5, 0, 1), RowSample(5, 4, 20, whole_row=True), RowSample(5, 4, 20, weakest=True)),
)
def test_against_plain_transformers(tiny_runner: Runner, view: RowSample) -> None:
    samples = [some_ids(tiny_runner, count, count) for count in (90, 70)]
    expected = torch.stack([by_hand(tiny_runner, ids, view) for ids in samples])
    first, both = measure(tiny_runner, samples, view)
    torch.testing.assert_close(first.double(), expected[0], rtol=1e-3, atol=1e-4)
    if not view.weakest:
        # The weakest head is the weakest over all samples, not in each.
        torch.testing.assert_close(both.double(), expected.mean(0), rtol=1e-3, atol=1e-4)


def test_the_ends_of_the_scale() -> None:
    same = torch.rand(1, 3, 8).softmax(-1).expand(2, 3, 8)
    assert jensen_shannon(same).abs().max() < 1e-6
    apart = torch.zeros(2, 3, 8)
    apart[0, :, 0] = apart[1, :, 5] = 1
    torch.testing.assert_close(jensen_shannon(apart), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_a_sample_without_distant_tokens_is_refused(llama_runner: Runner) -> None:
    with pytest.raises(CalibrationFailed, match="too short"):
        list(measure(llama_runner, [some_ids(llama_runner, 28, 1)], RowSample(5, 4, 20)))
    assert len(list(measure(llama_runner, [some_ids(llama_runner, 29, 1)], RowSample(5, 4, 20)))) == 1
