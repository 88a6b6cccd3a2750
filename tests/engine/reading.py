"""How these tests read: a runner around a network, a document read in chunks, and plain transformers beside it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.attention import sdpa
from engine.compression.compress import pack_pod, score
from engine.core.sampling import SamplingParams
from engine.kvcache.blocks import states
from engine.kvcache.exact import Pod, PodBlock, PodLoader
from engine.kvcache.key_maps import KeyMaps, value_layers
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.suffix import SuffixCache
from engine.models.families.base import kv_shape
from engine.models.families.registry import angles_of
from engine.models.families.states import found_states
from engine.models.loader import Model
from engine.models.tokenizer import Tokenizer
from engine.runtime.context import Head
from engine.runtime.generate import Question, generate
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests import tiny


def runner_of(network: PreTrainedModel, graphs: bool = False) -> Runner:
    """A runner as `models.load` would make it, around a network of `tests.tiny`."""
    sdpa.register()
    network.set_attn_implementation(sdpa.NAME)
    config = network.config
    window, stops = config.max_position_embeddings, frozenset([config.eos_token_id])
    tokenizer = Tokenizer(tiny.tokenizer())
    shape = kv_shape(config, network.dtype, found_states(network))
    facts = network, tokenizer, shape, network.device, window, stops
    model = Model(*facts, "tiny", "0" * 64, "for a test")
    return Runner(model, graphs)


@contextmanager
def plain(runner: Runner, implementation: str = "") -> Iterator[PreTrainedModel]:
    """The runner's own weights under transformers' own attention; "eager" gives the attention itself too."""
    network = runner.model.network
    # PyTorch's attention knows no soft caps, and some versions of transformers leave them out without a word.
    known = network._supports_sdpa and not getattr(network.config, "attn_logit_softcapping", None)
    network.set_attn_implementation(implementation or ("sdpa" if known else "eager"))
    yield network
    network.set_attn_implementation(sdpa.NAME)


def plain_logits(runner: Runner, ids: Sequence[int]) -> Tensor:
    """Logits (T, V) of one plain forward over all the ids."""
    with plain(runner) as network, torch.inference_mode():
        return network(input_ids=torch.tensor([ids], device=network.device), use_cache=False).logits[0]


def compress(runner: Runner, ids: Sequence[int], exact: Pod, layout: Layout) -> QuantizedPod:
    """The pod that the layout's recipe makes of an exact one."""
    steps = list(score(runner, ids, exact, layout))
    return pack_pod(exact, layout, steps[-1] if steps else None)


def some_ids(runner: Runner, count: int, seed: int) -> list[int]:
    """Random ids that hold no stop token."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(3, 250, (count,), generator=generator).tolist()
    return ids


def some_maps(runner: Runner) -> KeyMaps:
    """Maps that predict the keys of three layers, badly."""
    generator, width = torch.Generator().manual_seed(0), 32
    known = {layer: (1 + len(value_layers(layer))) * width + 1 for layer in (1, 2, 3)}
    weights = {layer: 0.1 * torch.randn(size, width, generator=generator) for layer, size in known.items()}
    return KeyMaps((0, 0, 0, 0), weights, angles_of(runner.model.network, runner.model.shape.head_dim), {})


def feed(builder: PodBuilder, ids: Sequence[int], chunk_tokens: int) -> list[PodBlock]:
    """The rest of a document, chunk by chunk; the blocks that would be stored."""
    starts = range(builder.num_read, len(ids), chunk_tokens)
    return [builder.feed(ids[start : start + chunk_tokens]) for start in starts]


def read(runner: Runner, ids: Sequence[int], chunk_tokens: int = 64) -> Pod:
    """A document, read in chunks."""
    builder = PodBuilder(runner, len(ids))
    feed(builder, ids, chunk_tokens)
    return builder.finish()


def restored(runner: Runner, blocks: Sequence[PodBlock]) -> Pod:
    """A pod from blocks that went through a file: the facts as JSON, the payload as bytes."""
    loader = PodLoader(runner.model.shape, blocks[-1].stop, runner.model.device)
    for block in blocks:
        loader.add(*_through_a_file(block))
    pod, model = loader.finish(), runner.model
    if (behind := blocks[-1].states) is None:
        return pod
    found = states.from_block(*_through_a_file(behind), model.shape, pod.num_tokens, model.device)
    return replace(pod, states=found)


def _through_a_file(block: PodBlock) -> tuple[dict[str, Any], memoryview]:
    return json.loads(json.dumps(dict(block.meta))), memoryview(bytearray(block.payload))


def ask(runner: Runner, pods: Sequence[Pod], pieces: Sequence[Sequence[int]]) -> list[Tensor]:
    """The logits (V,) behind each piece of a question that is fed piece by piece."""
    suffix = SuffixCache(runner.model.shape, sum(map(len, pieces)), runner.model.device)
    context = runner.context(pods, suffix)
    return [runner.run(context, piece) for piece in pieces]


def attention(runner: Runner, pods: Sequence[Pod], ids: Sequence[int], heads: Sequence[Head]) -> list[list[float]]:
    """Where these heads look while the model takes in a question that is not answered, by pod and token."""
    with Question(runner, pods, ids, heads) as question:
        return [each.tolist() for each in question.attention()]


def fingerprint(pod: Pod) -> str:
    """sha256 over every byte of a pod."""
    parts = (pod.keys, pod.values, pod.positions)
    raw = (part.cpu().contiguous().view(torch.uint8).numpy().tobytes() for part in parts)
    return hashlib.sha256(b"".join(raw)).hexdigest()


def greedy(runner: Runner, pods: Sequence[Pod], ids: Sequence[int], max_tokens: int) -> list[int]:
    """The likeliest answer."""
    return [step.token_id for step in generate(runner, pods, ids, SamplingParams(max_tokens))]


def plain_greedy(runner: Runner, ids: Sequence[int], max_tokens: int) -> list[int]:
    """What transformers' own `generate` answers, without the stop token."""
    with plain(runner) as network:
        prompt = torch.tensor([ids], device=network.device)
        tokens = network.generate(prompt, do_sample=False, max_new_tokens=max_tokens)[0, len(ids) :].tolist()
    return [token for token in tokens if token not in runner.model.stop_ids]
