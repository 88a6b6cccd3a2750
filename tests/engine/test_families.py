"""Every family that goes transformers' own way, through our attention, gives what plain transformers gives.

Tolerances are those of tests/engine/test_equivalence.py.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from engine.attention import sdpa
from engine.core.errors import PlanMissing, PodMismatch
from engine.core.lse import reference
from engine.kvcache.blocks import states
from engine.kvcache.layout import expected_bytes, layout_of
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.recipe import parse
from engine.models import loader
from engine.models.families.general import GENERAL, SEEING
from engine.models.families.registry import FAMILIES
from engine.runtime.generate import attention_probs
from engine.runtime.prefill import builder as prefill
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests import tiny, tiny_families
from tests.engine.reading import (
    ask,
    compress,
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

FLOAT32 = {"rtol": 0.0, "atol": 1e-4}
DOCUMENT, QUESTION = 130, 40

made = cache(lambda name: runner_of(tiny_families.build(name)))


@pytest.fixture(params=[*GENERAL, *tiny_families.VARIANTS])
def runner(request: pytest.FixtureRequest, one_thread: None) -> Runner:
    runner: Runner = made(request.param)
    return runner


def test_reading_and_asking_equal_plain_transformers(runner: Runner) -> None:
    """Logits behind every piece of a question, after the pod came back from blocks, and of a second question."""
    document, question, other = (some_ids(runner, count, seed) for seed, count in enumerate((DOCUMENT, QUESTION, 20)))
    builder = PodBuilder(runner, len(document))
    blocks = feed(builder, document, 37)
    pod, back = builder.finish(), restored(runner, blocks)
    assert pod.nbytes == back.nbytes == runner.model.shape.num_bytes(DOCUMENT)
    kept = [each.clone() for each in back.states]
    for in_chunks, at_once in zip(kept, read(runner, document, DOCUMENT).states, strict=True):
        torch.testing.assert_close(in_chunks, at_once, **FLOAT32)
    expected = plain_logits(runner, document + question)
    for count, logits in zip(
        (1, 19, 40), ask(runner, [pod], [question[:1], question[1:19], question[19:]]), strict=True
    ):
        torch.testing.assert_close(logits, expected[DOCUMENT + count - 1], **FLOAT32)
    assert torch.equal(ask(runner, [back], [question])[0], ask(runner, [pod], [question])[0])
    second = ask(runner, [back], [other])[0]
    torch.testing.assert_close(second, plain_logits(runner, document + other)[-1], **FLOAT32)
    assert greedy(runner, [back], question[:9], 32) == plain_greedy(runner, document + question[:9], 32)
    assert all(map(torch.equal, back.states, kept))


def test_two_sections(runner: Runner) -> None:
    """Each keeps its positions from 0; the question stands behind the longest, and sees of each what its window does.
    Layers with a state go on from one.

    Heads look where the written out attention does, with soft caps and beside learned sinks.
    """
    sections, question = [some_ids(runner, count, count) for count in (70, 60)], some_ids(runner, 20, 2)
    pods = [read(runner, each) for each in sections]
    if not runner.model.shape.attends_together:
        with pytest.raises(PodMismatch, match="go on from one section"):
            ask(runner, pods, [question])
        pods, sections = pods[:1], sections[:1]
    expected, weights = written_out(runner, sections, question)
    for count, logits in zip((7, 20), ask(runner, pods, [question[:7], question[7:]]), strict=True):
        torch.testing.assert_close(logits, expected[count - 1], **FLOAT32)
    shape, heads = runner.model.shape, runner.model.network.config.num_attention_heads
    every = list(itertools.product(range(shape.layers), range(heads)))
    seen = attention_probs(runner, pods, question, every)
    for layer, head in every:
        both = torch.cat(list(seen[layer, head]), 1)
        wanted = weights[shape.attending[layer] if shape.attending else layer][head, -20:, : both.shape[1]]
        torch.testing.assert_close(both, wanted, rtol=0, atol=5e-5)


def test_states_begin_where_a_section_ended(runner: Runner) -> None:
    """Reading goes on behind stored blocks to the same bytes; without its states, or from others, it does not."""
    shape, document = runner.model.shape, some_ids(runner, DOCUMENT, 3)
    builder = PodBuilder(runner, DOCUMENT)
    first, second, last = feed(builder, document, 50)
    again = PodBuilder(runner, DOCUMENT)
    for block in (first, second):
        again.restore(block.meta, memoryview(bytearray(block.payload)))
    if not shape.states:
        assert last.states is None
        return
    with pytest.raises(PodMismatch, match="missing"):
        again.feed(document[100:])
    assert first.states is not None and second.states is not None and last.states is not None
    for behind, tokens in ((first.states, 100), (second.states, 50)):
        with pytest.raises(PodMismatch, match="do not fit"):
            states.from_block(behind.meta, behind.payload, shape, tokens, runner.model.device)
    assert len(second.states.payload) == shape.state_bytes
    with pytest.raises(PodMismatch, match="do not fit"):
        again.restore_states(second.states.meta, second.states.payload[:-1])
    again.restore_states(second.states.meta, memoryview(bytearray(second.states.payload)))
    # What ends in the middle of a chunk, for want of memory, has changed no state.
    attend = again.context.attend
    again.context.attend = None
    with pytest.raises(TypeError):
        again.feed(document[100:])
    again.context.attend = attend
    resumed = again.feed(document[100:])
    assert resumed.payload == last.payload
    assert resumed.states is not None and resumed.states.payload == last.states.payload
    pod = again.finish()
    with pytest.raises(PodMismatch, match="no part"):
        pod.select(torch.arange(3))
    suffix = again.context.suffix
    with pytest.raises(PodMismatch, match="cannot go back"):
        suffix.crop(100)
    suffix.crop(0)
    assert again.feed(document[:50]).states.payload == first.states.payload


@pytest.mark.parametrize("family", ["qwen3_5_text", "lfm2", "bamba"])
def test_states_come_back_in_the_dtypes_that_they_have(family: str, one_thread: None) -> None:
    """Of a model in 16 bits recurrences are summed up in 32, and the input of convolutions is not."""
    runner = runner_of(tiny_families.build(family).bfloat16())
    dtypes = {each.kind: each.dtype for each in runner.model.shape.states}
    assert dtypes.pop("conv_states") == torch.bfloat16 and {*dtypes.values()} <= {torch.float32}
    document, question = (some_ids(runner, count, count) for count in (131, 20))
    builder = PodBuilder(runner, len(document))
    blocks = feed(builder, document, 65)
    pod, back = builder.finish(), restored(runner, blocks)
    assert all(map(torch.equal, pod.states, back.states))
    assert greedy(runner, [back], question, 16) == greedy(runner, [pod], question, 16)


@pytest.mark.parametrize("recipe", ["k8v8h+near4,32", "k8v8s+near4,32", "keep60+k8v8h+near4,32", "linear25"])
def test_recipes_hold_or_are_refused(runner: Runner, recipe: str) -> None:
    """Packing distant tokens in 8 bits moves logits by a tenth at most of what leaving them out does; dropping two in
    five of them moves them by less than that. All else is refused in a sentence."""
    model, parsed = runner.model, parse(recipe)
    if model.shape.peculiarity or parsed.sharing.mode:
        with pytest.raises(PlanMissing, match=r"it is read by the recipe exact|not known"):
            layout_of(model, parsed)
        return
    document, question = some_ids(runner, DOCUMENT, 1), some_ids(runner, 20, 2)
    layout, exact = layout_of(model, parsed), read(runner, document)
    pod = prefill.read(runner, document, layout)
    if not isinstance(pod, QuantizedPod):
        pod = compress(runner, document, exact, layout)
    assert parsed.selection.drops or expected_bytes(layout, model.shape, DOCUMENT) == pod.nbytes
    assert parsed.precision.while_reading or all(map(torch.equal, pod.states, exact.states))
    near = replace(exact, states=()).select(torch.tensor(layout.proximal(DOCUMENT)))
    near = replace(near, states=exact.states)
    kept, blind, whole = (ask(runner, [each], [question])[0] for each in (pod, near, exact))
    assert (kept - whole).norm() < (1 if parsed.selection.drops else 0.1) * (blind - whole).norm()


@pytest.mark.parametrize("family", GENERAL)
def test_a_folder_is_loaded_as_it_was_saved(family: str, tmp_path: Path, no_gpu: None, one_thread: None) -> None:
    (tmp_path / "cpu-dtype.txt").write_text("float32")
    made(family).model.network.save_pretrained(tmp_path / "reader")
    tiny.tokenizer().save_pretrained(tmp_path / "reader")
    model = loader.load(str(tmp_path / "reader"), tmp_path, lambda said: None)
    assert (model.shape, model.window, model.stop_ids) == (made(family).model.shape, 2048, {257})
    ids = some_ids(made(family), 50, 1)
    first, second = (ask(each, [read(each, ids[:40])], [ids[40:]])[0] for each in (made(family), Runner(model)))
    torch.testing.assert_close(first, second, **FLOAT32)


def test_in_pieces_attention_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few logits are written out at once."""
    monkeypatch.setattr(sdpa, "_QUERIES", 5)
    monkeypatch.setattr(sdpa, "_KEYS", 7)
    generator = torch.Generator().manual_seed(0)
    for queries, tokens, causal in itertools.product((1, 5, 12), (1, 7, 12, 30), (True, False)):
        if causal and tokens < queries:
            continue
        query, (keys, values) = (
            torch.randn(*size, generator=generator) for size in ((4, queries, 16), (2, 2, tokens, 16))
        )
        expected = reference(query, keys, values, 0.5, causal, 2.0)
        for part, wanted in zip(sdpa.in_pieces(query, keys, values, 0.5, causal, 2.0), expected, strict=True):
            torch.testing.assert_close(part, wanted, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_wide_heads_on_a_gpu() -> None:
    """Of more channels than flash attention takes: Gemma 4 has 512."""
    generator = torch.Generator("cuda").manual_seed(0)
    for queries, past, causal in itertools.product((1, 33, 300), (0, 45, 1000), (True, False)):
        sizes = (6, queries, 512), (2, 2, past + queries, 512)
        query, (keys, values) = (torch.randn(*each, generator=generator, device="cuda").bfloat16() for each in sizes)
        out, lse = sdpa.fused(query, keys, values, 0.05, causal and queries > 1)
        wanted, wanted_lse = reference(query, keys, values, 0.05, causal and queries > 1)
        torch.testing.assert_close(out, wanted, rtol=0, atol=0.03)
        torch.testing.assert_close(lse, wanted_lse, rtol=0, atol=2e-3)


def test_the_table_of_families_is_true() -> None:
    """docs/readers.md has every family, how its layers are run, and what is said of it here."""
    text = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert [(name.strip("|` "), way) for name, way, _ in rows] == [
        *((name, "own loop") for name in FAMILIES),
        *((name, "transformers") for name in GENERAL),
    ]
    assert [special.removesuffix(" |") for *_, special in rows[len(FAMILIES) :]] == [*GENERAL.values()]
    assert all(f"`{name}`" in text for name in SEEING)


def written_out(
    runner: Runner, sections: Sequence[Sequence[int]], question: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (Q, V) of a question over sections, and each layer's weights (H, T, T), by one forward whose attention is
    written out."""
    ids = torch.tensor([token for part in (*sections, question) for token in part])
    longest, weights = max(map(len, sections)), {}
    parts = [*(torch.arange(len(each)) for each in sections), longest + torch.arange(len(question))]
    places = torch.cat(parts)
    of = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(each) for each in parts]))
    asked = of == len(sections)
    sees = ((of[:, None] == of) | asked[:, None]) & (torch.arange(len(ids))[:, None] >= torch.arange(len(ids)))

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, **asks: Any
    ) -> tuple[Tensor, None]:
        share = query.shape[1] // key.shape[1]
        keys, values = (each[0].repeat_interleave(share, 0) for each in (key, value))
        logits = query[0] @ keys.transpose(1, 2) * asks["scaling"]
        if softcap := asks.get("softcap"):
            logits = softcap * torch.tanh(logits / softcap)
        near = places[:, None] - places < (asks.get("sliding_window") or len(ids))
        logits = logits.masked_fill(~(sees & near), -torch.inf)
        if (sinks := asks.get("s_aux")) is not None:
            logits = torch.cat([logits, sinks[:, None, None].expand(-1, len(ids), 1)], 2)
        weights[module.layer_idx] = logits.softmax(-1)[..., : len(ids)]
        return (weights[module.layer_idx] @ values).transpose(0, 1)[None].contiguous(), None

    AttentionInterface.register("written_out", attention)
    AttentionMaskInterface.register("written_out", lambda *args, **kwargs: None)
    with plain(runner, "written_out") as network, torch.inference_mode():
        logits: Tensor = network(input_ids=ids[None], position_ids=places[None], use_cache=False).logits
    return logits[0, -len(question) :], weights
