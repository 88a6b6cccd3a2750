"""A document that was read into a pod and asked gives what plain transformers gives for the same tokens.

The tiny models run in float32 and their logits reach 5. Pods sum in another order than one plain forward, and that is
all: plain transformers is up to 2.1e-5 away from the same model in float64, pods up to 2.1e-5 too, and the two are up
to 2.0e-5 apart (four families, chunks of 1 to 300 tokens). FLOAT32 = 1e-4 is five times that, and a thousandth of what
one wrong position costs. In bfloat16 the same rounding is 65,536 times coarser, so there the rule is flash-attention's:
an error against float32 of at most twice that of the plain forward in bfloat16.
"""

import copy
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.evidence.prose import report
from engine.evidence.calibration import passage
from engine.kvcache.exact import Pod
from engine.kvcache.suffix import SuffixCache
from engine.models import loader
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import (
    ask,
    attention,
    feed,
    fingerprint,
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
QUESTION = "What did the writer of this report see, and what is to be done about it?"
PIECES = (1, 17, 1, 1, 20)
BEHIND = (1, 18, 19, 20, 40)


def pieces_of(ids: Sequence[int], sizes: Sequence[int] = PIECES) -> list[Sequence[int]]:
    """A question cut into calls of these sizes."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [ids[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def exact_logits(network: PreTrainedModel, segments: Sequence[Sequence[int]], question: Sequence[int]) -> Tensor:
    """Logits (Q, V) of a question over separate segments, by transformers' eager attention in float64.

    Each segment starts at position 0 and sees itself alone; the question stands behind the longest and sees all.
    """
    exact = copy.deepcopy(network).double()
    exact.set_attn_implementation("eager")
    ids = [token for part in (*segments, question) for token in part]
    behind = max(map(len, segments))
    positions = [slot for part in segments for slot in range(len(part))]
    positions += range(behind, behind + len(question))
    sees = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    start = 0
    for part in segments:
        stop = start + len(part)
        sees[start:stop, :start] = False
        start = stop
    mask = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, float("-inf"))[None, None]
    with torch.inference_mode():
        out = exact(
            input_ids=torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            attention_mask=mask,
            use_cache=False,
        )
    return out.logits[0, -len(question) :]


@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 111, 130])
def test_logits_equal_a_plain_forward(tiny_runner: Runner, chunk_tokens: int) -> None:
    """Behind every piece of the question, whatever chunks the document was read in."""
    document, question = some_ids(tiny_runner, 130, 1), some_ids(tiny_runner, sum(PIECES), 2)
    plain = plain_logits(tiny_runner, document + question)
    pod = read(tiny_runner, document, chunk_tokens)
    for count, logits in zip(BEHIND, ask(tiny_runner, [pod], pieces_of(question)), strict=True):
        torch.testing.assert_close(logits, plain[130 + count - 1], **FLOAT32)


def test_a_pod_holds_the_keys_and_values_of_transformers(tiny_runner: Runner) -> None:
    """With positions from 0: rotary logits see only distances, so they alone would not show a shift of everything."""
    document = some_ids(tiny_runner, 130, 1)
    pod = read(tiny_runner, document, 64)
    with plain(tiny_runner) as network, torch.inference_mode():
        cache = network(input_ids=torch.tensor([document]), use_cache=True).past_key_values
    for layer, (keys, values) in enumerate(zip(pod.keys, pod.values, strict=True)):
        torch.testing.assert_close(keys, cache.layers[layer].keys[0], **FLOAT32)
        torch.testing.assert_close(values, cache.layers[layer].values[0], **FLOAT32)


def test_one_wrong_position_shows(tiny_runner: Runner) -> None:
    """The tolerance is tight: a question that stands one token too late is far outside of it."""
    document, question = some_ids(tiny_runner, 300, 1), some_ids(tiny_runner, 40, 2)
    pod = read(tiny_runner, document)
    late = Pod(pod.keys, pod.values, pod.positions, pod.num_tokens + 1)
    error = ask(tiny_runner, [late], [question])[0] - plain_logits(tiny_runner, document + question)[-1]
    assert error.abs().max() > 1000 * FLOAT32["atol"]


def test_greedy_answers_are_those_of_generate(tiny_runner: Runner) -> None:
    for seed in range(3):
        document, question = some_ids(tiny_runner, 200, seed), some_ids(tiny_runner, 9, seed + 50)
        answer = greedy(tiny_runner, [read(tiny_runner, document)], question, 48)
        assert answer == plain_greedy(tiny_runner, document + question, 48)
        if len(answer) < 48:
            # The model chose to stop, as `generate` did too; the other seeds go on.
            continue
        assert len(set(answer)) > 24, "an answer that repeats itself proves little"


def test_several_pods_at_once(tiny_runner: Runner) -> None:
    """Each pod keeps its positions from 0; the question stands behind the longest."""
    documents = [some_ids(tiny_runner, count, count) for count in (90, 200, 1, 64)]
    question = some_ids(tiny_runner, sum(PIECES), 5)
    exact = exact_logits(tiny_runner.model.network, documents, question)
    pods = [read(tiny_runner, document) for document in documents]
    for order in (pods, pods[::-1]):
        for count, logits in zip(BEHIND, ask(tiny_runner, order, pieces_of(question)), strict=True):
            torch.testing.assert_close(logits.double(), exact[count - 1], **FLOAT32)


def test_a_passage_stands_where_it_stood(tiny_runner: Runner) -> None:
    """Selected slots keep their positions; the question stands behind the last of them, and sees nothing else."""
    document, question = some_ids(tiny_runner, 300, 1), some_ids(tiny_runner, 20, 2)
    pod = read(tiny_runner, document)
    chosen = passage(pod, 10, 84, 199)
    kept = [*range(10), *range(84, 200)]
    assert chosen.positions.tolist() == kept

    exact = copy.deepcopy(tiny_runner.model.network).double()
    exact.set_attn_implementation("eager")
    sees = torch.ones(220, 220, dtype=torch.bool).tril()
    sees[200:, [slot for slot in range(200) if slot not in kept]] = False
    mask = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, float("-inf"))[None, None]
    with torch.inference_mode():
        ids = torch.tensor([document[:200] + question])
        logits = exact(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, -1]
    torch.testing.assert_close(ask(tiny_runner, [chosen], [question])[0].double(), logits, **FLOAT32)


def test_a_restored_pod_answers_bit_for_bit(tiny_runner: Runner) -> None:
    document, question = some_ids(tiny_runner, 200, 1), some_ids(tiny_runner, sum(PIECES), 2)
    builder = PodBuilder(tiny_runner, len(document))
    blocks = feed(builder, document, 64)
    pod, back = builder.finish(), restored(tiny_runner, blocks)
    assert fingerprint(back) == fingerprint(pod)
    for before, after in zip(
        ask(tiny_runner, [pod], pieces_of(question)), ask(tiny_runner, [back], pieces_of(question)), strict=True
    ):
        assert torch.equal(before, after)
    assert greedy(tiny_runner, [back], question, 32) == greedy(tiny_runner, [pod], question, 32)


def test_asking_leaves_a_pod_as_it_is(tiny_runner: Runner) -> None:
    pods = [read(tiny_runner, some_ids(tiny_runner, count, count)) for count in (150, 60)]
    before = [fingerprint(pod) for pod in pods]
    question = some_ids(tiny_runner, 20, 2)
    first = greedy(tiny_runner, pods, question, 16)
    attention(tiny_runner, pods, question, [(0, 0), (2, 3)])
    greedy(tiny_runner, [passage(pods[0], 5, 40, 60)], some_ids(tiny_runner, 12, 3), 16)
    assert [fingerprint(pod) for pod in pods] == before
    assert greedy(tiny_runner, pods, question, 16) == first


def test_a_cropped_tail_forgets(tiny_runner: Runner) -> None:
    """Whatever was said after the crop point is gone, bit for bit, wherever that point is."""
    pod = read(tiny_runner, some_ids(tiny_runner, 150, 1))
    question, other = some_ids(tiny_runner, 20, 2), some_ids(tiny_runner, 30, 3)
    suffix = SuffixCache(tiny_runner.model.shape, 100, tiny_runner.model.device)
    context = tiny_runner.context([pod], suffix)
    before = fingerprint(pod)
    first = tiny_runner.run(context, question)
    held = [part.clone() for part in (suffix.keys[:, :, :20], suffix.values[:, :, :20])]
    tiny_runner.run(context, other)
    suffix.crop(20)
    assert (suffix.length, context.position) == (20, 170)
    assert torch.equal(suffix.keys[:, :, :20], held[0]) and torch.equal(suffix.values[:, :, :20], held[1])
    follow_up = tiny_runner.run(context, other[:7])
    suffix.crop(0)
    assert torch.equal(tiny_runner.run(context, question), first)
    assert torch.equal(tiny_runner.run(context, other[:7]), follow_up)
    assert fingerprint(pod) == before


def assert_resumes(runner: Runner, document: Sequence[int], chunk_tokens: int, after: Sequence[int]) -> None:
    """Where reading is interrupted after some blocks, those that follow and the pod are the same bytes."""
    builder = PodBuilder(runner, len(document))
    blocks = feed(builder, document, chunk_tokens)
    whole = fingerprint(builder.finish())
    for interrupted in after:
        again = PodBuilder(runner, len(document))
        for block in blocks[:interrupted]:
            again.restore(block.meta, memoryview(bytearray(block.payload)))
        rest = feed(again, document, chunk_tokens)
        assert [bytes(block.payload) for block in rest] == [bytes(block.payload) for block in blocks[interrupted:]]
        assert [block.meta for block in rest] == [block.meta for block in blocks[interrupted:]]
        assert fingerprint(again.finish()) == whole


def test_resumed_reading_gives_the_same_bytes(tiny_runner: Runner) -> None:
    assert_resumes(tiny_runner, some_ids(tiny_runner, 200, 1), 37, range(7))


def story(runner: Runner, tokens: int) -> list[int]:
    """The first tokens of a made-up report, in the model's chat template."""
    heading, paragraphs = report(random.Random(7), 1)
    text = "\n\n".join([heading, *(" ".join(sentences) for sentences in paragraphs)])
    tokenizer = runner.model.tokenizer
    return (tokenizer.encode_template("<|im_start|>user\n") + tokenizer.encode(text)[0])[:tokens]


def question_on(runner: Runner, question: str) -> list[int]:
    tokenizer = runner.model.tokenizer
    end = tokenizer.encode_template("<|im_end|>\n<|im_start|>assistant\n")
    return tokenizer.encode("\n\n" + question)[0] + end


def test_the_embedded_model_equals_a_plain_forward(embedded_runner: Runner, one_thread: None) -> None:
    """Its logits reach 40. In float32, pods and plain are up to 3.2e-5 apart.

    In bfloat16 plain is 0.13 away from float32, and pods are as far: 1.1 to 1.2 times that (root of the mean square
    over all the positions compared). Allowed is twice.
    """
    document, question = story(embedded_runner, 300), question_on(embedded_runner, QUESTION)
    sizes = (1, 5, *[1] * 8, len(question) - 14)
    at = torch.tensor(sizes).cumsum(0)
    pods = [read(embedded_runner, document, chunk_tokens) for chunk_tokens in (77, 300)]
    asked = [torch.stack(ask(embedded_runner, [pod], pieces_of(question, sizes))).float() for pod in pods]
    plain = plain_logits(embedded_runner, document + question)[299:].float()[at]
    if embedded_runner.model.shape.dtype == torch.float32:
        for logits in asked:
            torch.testing.assert_close(logits, plain, rtol=0.0, atol=2e-4)
        return
    wide = copy.deepcopy(embedded_runner.model.network).float()
    wide.set_attn_implementation("sdpa")
    with torch.inference_mode():
        exact = wide(input_ids=torch.tensor([document + question]), use_cache=False).logits[0, 299:][at]
    for logits in asked:
        assert (logits - exact).square().mean() <= 4 * (plain - exact).square().mean()


def test_the_embedded_models_greedy_answers(embedded_runner: Runner, one_thread: None) -> None:
    """In float32 they are those of `generate`.

    In bfloat16 a near tie may fall either way, between two plain ways of summing too. So there each token must be
    likeliest for the plain forward as well, up to the 0.5 by which two roundings of logits of 40 can differ.
    """
    document, question = story(embedded_runner, 300), question_on(embedded_runner, QUESTION)
    answer = greedy(embedded_runner, [read(embedded_runner, document, 128)], question, 36)
    assert len(answer) == 36
    if embedded_runner.model.shape.dtype == torch.float32:
        assert answer == plain_greedy(embedded_runner, document + question, 36)
    logits = plain_logits(embedded_runner, document + question + answer[:-1])[-36:].float()
    chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
    assert (logits.amax(1) - chosen).max() <= (0.5 if embedded_runner.model.shape.dtype == torch.bfloat16 else 1e-3)


def test_the_embedded_model_remembers_bit_for_bit(embedded_runner: Runner, one_thread: None) -> None:
    """Resumed, restored, asked and cropped: the same bytes, and the same logits from them."""
    runner = embedded_runner
    document, question = story(runner, 120), question_on(runner, QUESTION)
    assert_resumes(runner, document, 50, (1, 3))
    builder = PodBuilder(runner, len(document))
    blocks = feed(builder, document, 50)
    pod, back = builder.finish(), restored(runner, blocks)
    before = fingerprint(pod)
    assert fingerprint(back) == before
    suffix = SuffixCache(runner.model.shape, 80, runner.model.device)
    context = runner.context([back], suffix)
    first = runner.run(context, question)
    for token in (100, 200, 300):
        runner.run(context, [token])
    suffix.crop(0)
    assert torch.equal(runner.run(context, question), first)
    assert torch.equal(ask(runner, [pod], [question])[0], first)
    assert fingerprint(back) == fingerprint(pod) == before


def test_reading_on_every_core_gives_the_same_bytes(embedded_runner: Runner) -> None:
    document = story(embedded_runner, 100)
    assert fingerprint(read(embedded_runner, document, 50)) == fingerprint(read(embedded_runner, document, 50))


@pytest.mark.gpu
def test_tiny_models_on_a_gpu() -> None:
    """In bfloat16 with the flash kernel: the rule of the embedded model in bfloat16, and the same bytes on resuming."""
    for build in (tiny.llama, tiny.mistral, tiny.qwen2, tiny.qwen3):
        runner = runner_of(build().to("cuda", torch.bfloat16))
        document, question = some_ids(runner, 300, 1), some_ids(runner, sum(PIECES), 2)
        at = torch.tensor(BEHIND) + 299
        plain = plain_logits(runner, document + question).cpu().double()[at]
        wide = copy.deepcopy(runner.model.network).cpu().double()
        wide.set_attn_implementation("sdpa")
        exact = wide(input_ids=torch.tensor([document + question]), use_cache=False).logits[0].detach()[at]
        logits = torch.stack(ask(runner, [read(runner, document)], pieces_of(question))).cpu().double()
        assert (logits - exact).square().mean() <= 4 * (plain - exact).square().mean()
        assert_resumes(runner, document, 37, range(4))


@pytest.mark.gpu
def test_four_bit_weights_on_a_gpu(tiny_model_dir: Path, tmp_path: Path) -> None:
    """A folder is loaded in 4 bits, and answers as transformers does with the same 4-bit weights.

    bfloat16 keeps 8 bits: one in 256 for each of a few operations in a row, of the largest logit.
    """
    pytest.importorskip("bitsandbytes")
    runner = Runner(loader.load(str(tiny_model_dir), tmp_path, print))
    assert type(runner.model.network.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    document, question = some_ids(runner, 300, 1), some_ids(runner, 40, 2)
    expected = plain_logits(runner, document + question)[-1].float()
    difference = ask(runner, [read(runner, document)], [question])[0].float() - expected
    print(f"largest difference {difference.abs().max():.4f}, largest logit {expected.abs().max():.4f}")
    assert difference.abs().max() <= 0.04 * expected.abs().max()
    assert_resumes(runner, document, 37, range(4))
