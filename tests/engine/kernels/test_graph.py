"""A step recorded once as a CUDA graph serves growing tails and other pods."""

import pytest
import torch

from engine.runtime.kv_table import KVTable
from tests.engine.kernels.pods import LAYERS, Conversation, model, pod


@pytest.mark.gpu
def test_a_recorded_step_goes_on_when_the_pods_change() -> None:
    of = model(2, 4, 128, torch.bfloat16, torch.device("cuda"))
    table = KVTable(of.shape, of.heads, 64, of.device)
    first, second = [pod(of, "k4v4h", 1500)], [pod(of, "k4v4h", 1200), pod(of, "exact", 300)]
    scale = of.shape.head_dim**-0.5
    query = of.random(torch.Generator(), LAYERS, of.heads, 1)
    keys, values = of.random(torch.Generator(), 2, LAYERS, of.shape.kv_heads, 1)
    outputs = torch.zeros_like(query)
    positions = torch.zeros(1, dtype=torch.int64, device=of.device)

    def step() -> None:
        positions.copy_(table.positions(1))
        for layer in range(LAYERS):
            outputs[layer].copy_(table.attend(layer, query[layer], keys[layer], values[layer], scale))
        table.advance(1)

    table.set(first)
    bucket = table.bucket
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for pods in (first, second, first):
        talk = Conversation(of, pods, capacity=64, table=table)
        assert table.bucket == bucket
        for _ in range(3):
            expected = []
            assert int(table.suffix_length) == talk.truth.suffix.length
            generator = torch.Generator().manual_seed(talk.truth.suffix.length)
            for buffer in (query, keys, values):
                buffer.copy_(of.random(generator, *buffer.shape[:-1]))
            for layer in range(LAYERS):
                new = (query[layer].float(), keys[layer].float(), values[layer].float())
                expected.append(talk.truth.attend(layer, *new, scale))
            at = talk.truth.position
            talk.truth.suffix.advance(1)
            graph.replay()
            assert positions.tolist() == [at]
            torch.testing.assert_close(outputs.float(), torch.stack(expected), rtol=2e-2, atol=2e-3)
