"""Layers with a sliding window: stored as a window, attended as a window, and equal to plain transformers."""

import itertools
import json
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.attention.sdpa import fused, sliding
from engine.core.errors import ModelUnsupported, PodMismatch
from engine.core.kv_shape import KVShape, LayerShape
from engine.core.lse import reference
from engine.evidence.calibration import calibrate, passage
from engine.kvcache.exact import Pod, PodLoader, leaving, pieces, to_blocks
from engine.kvcache.suffix import SuffixCache
from engine.runtime.context import Context
from engine.runtime.generate import attention_probs
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import (
    ask,
    feed,
    greedy,
    plain,
    plain_greedy,
    plain_logits,
    read,
    restored,
    runner_of,
    some_ids,
)
from tests.engine.test_equivalence import FLOAT32, assert_resumes

WINDOW = 24


@pytest.fixture(params=tiny.windowed(WINDOW).items(), ids=lambda item: item[0])
def windowed_runner(request: pytest.FixtureRequest, one_thread: None) -> Runner:
    build: Callable[[], PreTrainedModel] = request.param[1]
    return runner_of(build())


def masked(query: Tensor, keys: Tensor, values: Tensor, scale: float, window: int, first: int) -> tuple[Tensor, Tensor]:
    """What `sliding` says, with a mask written out in float64."""
    groups = len(query) // len(keys)
    logits = query.double() @ keys.double().repeat_interleave(groups, 0).transpose(1, 2) * scale
    places, own = torch.arange(keys.shape[1]), first + torch.arange(query.shape[1])[:, None]
    logits = logits.masked_fill((places > own) | (places <= own - window), -torch.inf)
    weights = logits.softmax(-1).nan_to_num(0)
    return weights @ values.double().repeat_interleave(groups, 0), logits.logsumexp(-1)


@pytest.mark.parametrize("attention", [fused, reference])
def test_sliding_is_attention_under_a_mask(attention: Callable[..., tuple[Tensor, Tensor]], one_thread: None) -> None:
    """Of queries among the keys and behind them, for windows of 1 to more than everything."""
    generator = torch.Generator().manual_seed(0)
    for window, queries, past in itertools.product((1, 2, 5, 16, 64), (1, 2, 5, 17, 40), (0, 1, 7, 16, 33)):
        query = torch.randn(4, queries, 64, generator=generator)
        for tokens, first in ((past + queries, past), *((past, past + gap) for gap in (0, 3) if past)):
            keys, values = torch.randn(2, 2, tokens, 64, generator=generator)
            out, lse = sliding(attention, query, keys, values, 0.125, window, first)
            wanted, wanted_lse = masked(query, keys, values, 0.125, window, first)
            torch.testing.assert_close(out.double(), wanted, rtol=0, atol=1e-5)
            torch.testing.assert_close(lse.double(), wanted_lse, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [10, WINDOW - 1, WINDOW, WINDOW + 1, 130])
@pytest.mark.parametrize("chunk_tokens", [7, WINDOW, 130])
def test_logits_equal_a_plain_forward(windowed_runner: Runner, tokens: int, chunk_tokens: int) -> None:
    """Of documents below, at and far beyond the window, and questions that slide past its start."""
    document, question = some_ids(windowed_runner, tokens, 1), some_ids(windowed_runner, 60, 2)
    expected = plain_logits(windowed_runner, document + question)
    asked = [question[:1], question[1:18], question[18:20], question[20:]]
    pod = read(windowed_runner, document, chunk_tokens)
    for count, logits in zip((1, 18, 20, 60), ask(windowed_runner, [pod], asked), strict=True):
        torch.testing.assert_close(logits, expected[tokens + count - 1], **FLOAT32)


def test_answers_slide_past_the_window(windowed_runner: Runner) -> None:
    """Token by token, until nothing of the document is seen by a layer with a window."""
    document, question = some_ids(windowed_runner, 90, 1), some_ids(windowed_runner, 9, 2)
    answer = greedy(windowed_runner, [read(windowed_runner, document)], question, 2 * WINDOW)
    assert answer == plain_greedy(windowed_runner, document + question, 2 * WINDOW)
    assert len(answer) == 2 * WINDOW


def test_the_window_matters(windowed_runner: Runner) -> None:
    """The tolerance is tight: one token more or less in the window is far outside of it."""
    ids = some_ids(windowed_runner, 130, 1)
    expected = plain_logits(windowed_runner, ids)[-1]
    network = windowed_runner.model.network
    network.config.sliding_window = WINDOW + 1
    for layer in network.model.layers:
        if getattr(layer.self_attn, "sliding_window", None):
            layer.self_attn.sliding_window = WINDOW + 1
    wider = runner_of(network)
    assert wider.model.shape.windows == (WINDOW + 1,)
    assert (ask(wider, [read(wider, ids[:100])], [ids[100:]])[0] - expected).abs().max() > 0.01


def test_only_the_window_is_kept(windowed_runner: Runner) -> None:
    """In memory and in blocks; and what comes back from those answers as before, to the bit."""
    runner, shape = windowed_runner, windowed_runner.model.shape
    document, question = some_ids(runner, 130, 1), some_ids(runner, 20, 2)
    builder = PodBuilder(runner, len(document))
    chunks = feed(builder, document, 50)
    pod = builder.finish()
    held = {each.window: len(each.positions) for each in pod.groups}
    full = len(pod.groups) > 1
    assert held == {WINDOW: WINDOW - 1, **({None: 130} if full else {})}
    assert all(int(each.positions[-1]) == 129 for each in pod.groups)
    assert pod.nbytes == shape.num_bytes(130) < 130 * shape.token_bytes
    blocks = list(to_blocks(pod))
    assert sum(len(block.payload) for block in blocks) == pod.nbytes
    assert (blocks[0].start, blocks[-1].stop) == (0 if full else 131 - WINDOW, 130)
    expected = ask(runner, [pod], [question])[0]
    for stored in (chunks, blocks, [piece for block in chunks for piece in pieces(block)]):
        again = restored(runner, stored)
        assert again.nbytes == pod.nbytes
        assert torch.equal(ask(runner, [again], [question])[0], expected)


def test_resumed_reading_gives_the_same_bytes(one_thread: None) -> None:
    runner = runner_of(tiny.mistral(WINDOW))
    assert_resumes(runner, some_ids(runner, 200, 1), 37, range(7))


def test_large_blocks_are_cut(windowed_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever groups of layers they hold, the same pod comes back from them; a missing one is noticed."""
    runner, question = windowed_runner, some_ids(windowed_runner, 20, 2)
    pod = read(runner, some_ids(runner, 130, 1))
    monkeypatch.setattr("engine.kvcache.exact.MOST_BYTES", pod.nbytes // 4)
    blocks = list(to_blocks(pod))
    assert len(blocks) >= 4
    again = restored(runner, blocks)
    assert torch.equal(ask(runner, [again], [question])[0], ask(runner, [pod], [question])[0])
    with pytest.raises(PodMismatch, match="starts at token"):
        restored(runner, [blocks[0], *blocks[2:]])


def test_blocks_of_a_shorter_window_are_refused(one_thread: None) -> None:
    """As where a section was read further than the pod whose blocks these are."""
    shape = runner_of(tiny.windowed(WINDOW)["qwen3, every other layer"]()).model.shape
    rows = [torch.zeros(2, 2, count, 16) for count in (40, WINDOW - 2)]
    short = leaving([(each, each) for each in rows], 0)()
    loader = PodLoader(shape, 40, torch.device("cpu"))
    loader.add(short.meta, short.payload)
    with pytest.raises(PodMismatch, match="less than the windows"):
        loader.finish()


def test_attention_is_seen_inside_the_window_alone(windowed_runner: Runner) -> None:
    """Recorded heads look where transformers' own attention says."""
    runner = windowed_runner
    document, question = some_ids(runner, 60, 1), some_ids(runner, 30, 2)
    heads = list(itertools.product(range(4), range(4)))
    seen = attention_probs(runner, [read(runner, document)], question, heads)
    with plain(runner, "eager") as network, torch.inference_mode():
        ids = torch.tensor([document + question])
        expected = network(input_ids=ids, use_cache=False, output_attentions=True).attentions
    for layer, head in heads:
        torch.testing.assert_close(seen[layer, head][0], expected[layer][0, head, 60:, :60], rtol=0, atol=1e-5)


def test_such_a_model_answers_from_sections(windowed_runner: Runner) -> None:
    """A passage needs slots that a layer with a window no longer has."""
    pod = read(windowed_runner, some_ids(windowed_runner, 60, 1))
    with pytest.raises(PodMismatch, match="no part of it can be chosen"):
        passage(pod, 5, 20, 30)
    assert calibrate(windowed_runner, samples=1).answers_from == "sections"


def test_layers_of_any_shape(one_thread: None) -> None:
    """Heads, head sizes and windows may differ from layer to layer: kept, stored and attended each in its own shape."""
    wide, narrow, short = LayerShape(2, 64), LayerShape(1, 32, window=9), LayerShape(2, 64, window=5)
    shape = KVShape((wide, narrow, wide, short), torch.float32)
    assert shape.groups == ((0, 2), (1,), (3,)) and shape.windows == (5, 9)
    assert shape.token_bytes == 4 * 2 * (3 * 2 * 64 + 32)
    with pytest.raises(ModelUnsupported, match="the last 9 tokens only"):
        _ = shape.kv_heads
    with pytest.raises(ModelUnsupported, match="different heads"):
        _ = KVShape((wide, LayerShape(1, 32)), torch.float32).head_dim
    generator, device = torch.Generator().manual_seed(1), torch.device("cpu")
    every = [torch.randn(2, each.kv_heads, 50, each.head_dim, generator=generator) for each in shape.per_layer]
    suffix = SuffixCache(shape, 40, device)
    for layer, (keys, values) in enumerate(every):
        suffix.append(layer, keys[:, :40], values[:, :40])
    suffix.advance(40)
    pod = suffix.freeze()
    assert pod.nbytes == shape.num_bytes(40) == 4 * 2 * (40 * 2 * 2 * 64 + 8 * 32 + 4 * 2 * 64)
    loader = PodLoader(shape, 40, device)
    for block in to_blocks(pod):
        loader.add(json.loads(json.dumps(dict(block.meta))), memoryview(bytearray(block.payload)))
    for kept in (pod, loader.finish()):
        context = Context([kept], SuffixCache(shape, 10, device), reference)
        for layer, (keys, values) in enumerate(every):
            query = torch.randn(4, 10, keys.shape[2], generator=generator)
            out = context.attend(layer, query, keys[:, 40:], values[:, 40:], 0.2)
            wanted, _ = masked(query, keys, values, 0.2, shape.per_layer[layer].window or 100, 40)
            torch.testing.assert_close(out.double(), wanted, rtol=0, atol=1e-5)


def test_such_layers_share_no_keys(windowed_runner: Runner, llama_runner: Runner) -> None:
    llama_runner.model.need_every_token()
    with pytest.raises(ModelUnsupported, match="share no keys"):
        windowed_runner.model.need_every_token()


def test_several_sections(one_thread: None) -> None:
    """Every section is read by itself, and a question sees what its window reaches of each, by position."""
    runner = runner_of(tiny.mistral(WINDOW))
    long, short, question = (some_ids(runner, count, count) for count in (100, 90, 8))
    both = ask(runner, [read(runner, long), read(runner, short)], [question])[0]
    suffix = SuffixCache(runner.model.shape, 8, runner.model.device)
    pods = [read(runner, long), read(runner, short)]
    second = pods[1]
    seen = Pod(second.keys[:, :, 10:], second.values[:, :, 10:], second.positions[10:], second.num_tokens, WINDOW)
    # The second ends ten tokens before the question, so ten of its tokens less are seen.
    torch.testing.assert_close(runner.run(runner.context([pods[0], seen], suffix), question), both, rtol=0, atol=1e-5)
    assert not torch.allclose(both, ask(runner, [pods[0]], [question])[0], atol=1e-2)


def test_kernels_are_not_asked(windowed_runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """A runner that would answer in CUDA graphs says once why it does not."""
    with caplog.at_level(logging.WARNING):
        runner = Runner(windowed_runner.model, graphs=True)
    assert runner.graph_runner is None and "answers: plain PyTorch" in runner.backend
    (said,) = caplog.messages
    assert said.startswith("tiny answers without CUDA graphs: it has layers that see the last 24 tokens only")
