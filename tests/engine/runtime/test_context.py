"""What one call attends to: where new tokens stand, and where the recorded heads look."""

from typing import Any

import pytest
import torch

from engine.core.lse import reference
from engine.kvcache.exact import Pod
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import EarlyExit
from engine.runtime.runner import Runner
from tests.engine.reading import ask, read, some_ids


def test_new_tokens_stand_behind_the_longest_pod(llama_runner: Runner) -> None:
    pods = [read(llama_runner, some_ids(llama_runner, count, count)) for count in (30, 70, 50)]
    suffix = SuffixCache(llama_runner.model.shape, 20, llama_runner.model.device)
    context = llama_runner.context(pods, suffix)
    assert context.position == 70
    llama_runner.run(context, some_ids(llama_runner, 9, 0))
    assert context.position == 79
    assert llama_runner.context((), SuffixCache(llama_runner.model.shape, 1, llama_runner.model.device)).position == 0


def test_looks_are_shares_of_everything_attended(llama_runner: Runner) -> None:
    """The recorded mass is softmax over pods, tail and the new tokens together, of the right query head."""
    runner = llama_runner
    pods = [read(runner, some_ids(runner, count, count)) for count in (30, 70)]
    calls: list[tuple[torch.Tensor, list[torch.Tensor]]] = []

    def spy(query, keys, values, scale, causal):
        if not calls or calls[-1][0] is not query:
            calls.append((query, []))
        calls[-1][1].append(keys)
        return reference(query, keys, values, scale, causal)

    every = [(layer, head) for layer in range(4) for head in range(4)]
    suffix = SuffixCache(runner.model.shape, 40, runner.model.device)
    runner.run(runner.context(pods, suffix), some_ids(runner, 5, 1))
    context = runner.context(pods, suffix, every)
    context.attention = spy
    question = some_ids(runner, 11, 2)
    with pytest.raises(EarlyExit):
        runner.run(context, question)

    assert len(calls) == 4
    for layer, head in every:
        query, segments = calls[layer]
        # Two pods, and five tokens of the tail with the new ones, of which each sees those before it.
        assert [keys.shape[1] for keys in segments] == [30, 70, 16]
        keys = torch.cat([segment[head // 2] for segment in segments]).double()
        logits = query[head].double() @ keys.T * 16**-0.5
        logits[:, -11:] += torch.full((11, 11), -torch.inf, dtype=torch.float64).triu(1)
        shares = logits.softmax(-1)
        torch.testing.assert_close(context.probs[layer, head][0].double(), shares[:, :30], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(context.probs[layer, head][1].double(), shares[:, 30:100], rtol=1e-4, atol=1e-6)


def test_the_layers_above_the_last_head_are_not_run(llama_runner: Runner) -> None:
    runner = llama_runner
    layers: list[Any] = []

    def spy(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        layers.append(args)
        return reference(*args)

    question = some_ids(runner, 6, 1)
    context = runner.context([], SuffixCache(runner.model.shape, 6, runner.model.device), [(0, 1), (2, 2)])
    context.attention = spy
    with pytest.raises(EarlyExit):
        runner.run(context, question)
    assert (len(layers), set(context.probs)) == (3, {(0, 1), (2, 2)})
    assert (
        runner.run(runner.context([], SuffixCache(runner.model.shape, 6, runner.model.device)), question)
        .isfinite()
        .all()
    )


def test_an_empty_pod_adds_nothing(llama_runner: Runner) -> None:
    runner = llama_runner
    pod, question = read(runner, some_ids(runner, 50, 0)), some_ids(runner, 6, 1)
    empty = pod.select(torch.arange(0))
    assert (empty.num_tokens, empty.nbytes) == (0, 0)
    assert torch.equal(ask(runner, [empty, pod], [question])[0], ask(runner, [pod], [question])[0])
    assert isinstance(empty, Pod)
