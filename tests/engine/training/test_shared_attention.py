"""Attention under shared keys, against a slow loop in float64 that knows nothing but the method's definition."""

import math
import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from engine.compression.compress import pack_pod
from engine.kvcache.key_maps import KeyMaps
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.models.families.registry import angles_of
from engine.runtime.prefill.builder import read
from engine.runtime.runner import Runner
from engine.training.shared_attention import Distort, ExplicitWindows, FlexWindows, SharedAttention, Windows, dense
from engine.training.sharing import map_fit
from tests.engine.reading import plain_logits, some_ids

pytestmark = pytest.mark.slow

HEADS, GROUPS, DIM, LAYERS = 4, 2, 16, 4
ROOTS = ((0, 0), (0, 1), (2, 1), (2, 1))
SINGLE = tuple((layer,) * GROUPS for layer in range(LAYERS))
SCALE = DIM**-0.5
QKV = tuple[Tensor, Tensor, Tensor]


def some_layers(tokens: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[QKV]:
    """Query, keys and values of every layer."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((HEADS, tokens, DIM), (GROUPS, tokens, DIM), (GROUPS, tokens, DIM))
    drawn = [[2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in ROOTS]
    return [tuple(part.to(dtype) for part in parts) for parts in drawn]


def run(
    layers: Sequence[QKV], mode: str, windows: Windows, distort: Distort | None = None, first: int = 0
) -> list[Tensor]:
    """The outputs (H,T,D) of all layers in one forward."""
    memory = SharedAttention(ROOTS, mode, windows, distort, first)
    return [memory.attend(layer, *parts, SCALE) for layer, parts in enumerate(layers)]


def slow(layers: Sequence[QKV], mode: str, sinks: int, recent: int, far_value: float = 1.0) -> list[Tensor]:
    """Method, §4.1: two softmaxes of near and distant tokens and the gate, for every layer, head and token."""
    outs = []
    for layer, (query, keys, values) in enumerate(layers):
        out = torch.zeros(query.shape, dtype=torch.float64)
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            root = ROOTS[layer][group]
            asking = layers[root][0] if mode == "A" else query
            for i in range(query.shape[1]):
                proximal, distant = [], []
                for j in range(i + 1):
                    if j < sinks or i - j < recent:
                        proximal.append((math.exp(SCALE * float(query[head, i] @ keys[group, j])), values[group, j]))
                    else:
                        score = SCALE * float(asking[head, i] @ layers[root][1][group, j])
                        distant.append((math.exp(score), far_value * values[group, j]))
                near_sum, far_sum = sum(weight for weight, _ in proximal), sum(weight for weight, _ in distant)
                gate = near_sum / (near_sum + far_sum)
                out[head, i] = gate * sum(weight / near_sum * value for weight, value in proximal)
                if distant:
                    out[head, i] += (1 - gate) * sum(weight / far_sum * value for weight, value in distant)
        outs.append(out)
    return outs


@pytest.mark.parametrize("mode", ["A", "B"])
@pytest.mark.parametrize(("sinks", "recent"), [(2, 5), (0, 1), (1, 2), (3, 19)])
def test_every_layer_is_as_defined(mode: str, sinks: int, recent: int) -> None:
    layers = some_layers(23)
    for out, expected in zip(
        run(layers, mode, ExplicitWindows(sinks, recent)), slow(layers, mode, sinks, recent), strict=True
    ):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_tokens_that_ask_share_and_those_before_them_read_densely(mode: str) -> None:
    """What the tokens from `first` on see is what a pod keeps: sinks, last tokens, distant ones by their roots."""
    tokens, first, sinks, recent = 23, 15, 2, 4
    layers = some_layers(tokens)
    for windows in (ExplicitWindows(sinks, recent), FlexWindows(sinks, recent, compiled=False)):
        memory = SharedAttention(ROOTS, mode, windows, first=first)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outs = [memory.attend(layer, *parts, SCALE) for layer, parts in enumerate(layers)]
        for layer, out in enumerate(outs):
            query, keys, values = layers[layer]
            torch.testing.assert_close(out[:, :first], dense(query, keys, values, SCALE)[:, :first])
            for head in range(HEADS):
                group = head * GROUPS // HEADS
                root = ROOTS[layer][group]
                asking = layers[root][0] if mode == "A" else query
                for i in range(first, tokens):
                    distant = torch.tensor([sinks <= j < first - recent for j in range(i + 1)])
                    own, shared = (
                        keys[group, : i + 1] @ query[head, i],
                        layers[root][1][group, : i + 1] @ asking[head, i],
                    )
                    share = (SCALE * torch.where(distant, shared, own)).softmax(0)
                    torch.testing.assert_close(out[head, i], share @ values[group, : i + 1])


@pytest.mark.parametrize("mode", ["A", "B", "linear"])
def test_a_document_is_asked_in_training_as_it_is_from_a_pod(llama_runner: Runner, mode: str) -> None:
    """The same logits as from the pod that keeps the roots' distant keys, made after dense reading."""
    ids = some_ids(llama_runner, 80, 0)
    roots, maps = ROOTS, None
    if mode == "linear":
        network = llama_runner.model.network
        angles, own = angles_of(network, llama_runner.model.shape.head_dim), (0, 0, 2, 2)
        weights = map_fit.fit(own, [read(llama_runner, some_ids(llama_runner, 300, 1))], angles)
        roots, maps = tuple((root,) * GROUPS for root in own), KeyMaps(own, weights, angles, {})
    pod = pack_pod(read(llama_runner, ids[:60]), Layout(parse(f"{mode}35+near2,8"), roots, maps))
    context = llama_runner.context([pod], SuffixCache(llama_runner.model.shape, 20, llama_runner.model.device))
    asked = llama_runner.score(context, ids[60:], 20)
    trained = network_logits(llama_runner, ids, SharedAttention(roots, mode, ExplicitWindows(2, 8), None, 60, maps))
    torch.testing.assert_close(trained[60:], asked, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_modes_and_sharing_make_a_difference(mode: str) -> None:
    layers = some_layers(23)
    other = run(layers, "B" if mode == "A" else "A", ExplicitWindows(1, 2))
    single = SharedAttention(SINGLE, mode, ExplicitWindows(1, 2))
    for layer, out in enumerate(run(layers, mode, ExplicitWindows(1, 2))):
        apart = [root != layer for root in ROOTS[layer]]
        unshared = single.attend(layer, *layers[layer], SCALE)
        for group in range(GROUPS):
            heads = slice(group * HEADS // GROUPS, (group + 1) * HEADS // GROUPS)
            assert torch.allclose(out[heads], unshared[heads]) != apart[group]
            assert torch.allclose(out[heads], other[layer][heads]) != apart[group]


def test_the_masks_are_those_of_figure_2() -> None:
    proximal, distant = ExplicitWindows(1, 2).masks(6, torch.device("cpu"))
    drawn = ("N.....", "NN....", "NNN...", "NFNN..", "NFFNN.", "NFFFNN")
    for i, row in enumerate(drawn):
        for j, cell in enumerate(row):
            assert (bool(proximal[i, j]), bool(distant[i, j])) == (cell == "N", cell == "F"), (i, j)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_blocks_of_one_layer_are_dense(tiny_runner: Runner, mode: str) -> None:
    ids = some_ids(tiny_runner, 60, 0)
    logits = network_logits(tiny_runner, ids, SharedAttention(SINGLE, mode, ExplicitWindows(2, 5)))
    torch.testing.assert_close(logits, plain_logits(tiny_runner, ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_short_sequences_are_dense(tiny_runner: Runner, mode: str) -> None:
    ids = some_ids(tiny_runner, 61, 0)
    short = network_logits(tiny_runner, ids[:60], SharedAttention(ROOTS, mode, ExplicitWindows(20, 40)))
    torch.testing.assert_close(short, plain_logits(tiny_runner, ids[:60]), rtol=0, atol=1e-4)
    # One token more, and that token sees one far token.
    longer = network_logits(tiny_runner, ids, SharedAttention(ROOTS, mode, ExplicitWindows(20, 40)))
    apart = (longer - plain_logits(tiny_runner, ids)).abs().amax(-1)
    assert apart[:-1].max() < 1e-4
    assert apart[-1] > 1e-3


def test_explicit_windows_without_far_tokens_are_dense() -> None:
    """Which `attend` never asks for, and gradients stay numbers."""
    query, keys, values = (part.requires_grad_() for part in some_layers(9)[0])
    out = ExplicitWindows(3, 6).attend((query, keys, values), (query, keys, values), SCALE)
    torch.testing.assert_close(out, dense(query, keys, values, SCALE))
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(out.sum(), (query, keys, values)))


@pytest.mark.parametrize("mode", ["A", "B"])
def test_gradients_flow_into_the_roots(one_thread: None, mode: str) -> None:
    layers = [tuple(part.requires_grad_() for part in parts) for parts in some_layers(9)]
    flat = [part for parts in layers for part in parts]

    def last(*parts: Tensor) -> Tensor:
        again = [tuple(parts[3 * layer : 3 * layer + 3]) for layer in range(LAYERS)]
        return run(again, mode, ExplicitWindows(1, 2))[-1]

    assert torch.autograd.gradcheck(last, flat)
    found = torch.autograd.grad(last(*flat).square().sum(), flat, allow_unused=True)
    reached = {(index // 3, "qkv"[index % 3]) for index, grad in enumerate(found) if grad is not None and grad.any()}
    # Layer 3 has the roots 2 and 1 for its two KV heads.
    roots = {(1, "q"), (2, "q"), (1, "k"), (2, "k")} if mode == "A" else {(1, "k"), (2, "k")}
    assert reached == roots | {(3, "q"), (3, "k"), (3, "v")}


@pytest.mark.parametrize("mode", ["A", "B"])
def test_far_tokens_can_be_distorted(mode: str) -> None:
    """In every layer, the roots too; proximal tokens stay as they are."""
    layers = some_layers(23)
    outs = run(layers, mode, ExplicitWindows(2, 5), lambda keys, values: (keys, 3 * values))
    for out, expected in zip(outs, slow(layers, mode, 2, 5, far_value=3.0), strict=True):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("mode", ["A", "B"])
def test_flex_attention_is_the_reference(mode: str) -> None:
    """Its masks and the merge, without the compiler, which the processor does not need."""
    layers = some_layers(200, torch.float32)
    expected = run(layers, mode, ExplicitWindows(3, 20))
    with torch.no_grad():
        outs = run(layers, mode, FlexWindows(3, 20, compiled=False))
    for out, wanted in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("first", [0, 600])
@pytest.mark.parametrize("mode", ["A", "B"])
def test_compiled_flex_attention_is_the_reference(mode: str, first: int) -> None:
    """Outputs and gradients in bfloat16 against float32 arithmetic on the same numbers, at an odd length.

    bfloat16 keeps 8 bits, so each of a few operations in a row is off by up to 0.4 %; one wrong block by 10 % and more.
    """
    torch.use_deterministic_algorithms(False)
    torch._dynamo.reset()
    tokens = 1000
    exact = [tuple(part.cuda() for part in parts) for parts in some_layers(tokens, torch.float32)]
    weight = torch.randn(HEADS, tokens, DIM, generator=torch.Generator().manual_seed(3)).cuda()

    def outputs(windows: Windows, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        given = [tuple(part.detach().bfloat16().to(dtype).requires_grad_() for part in parts) for parts in exact]
        out = torch.stack(run(given, mode, windows, first=first)).float()
        flat = [part for parts in given for part in parts]
        grads = torch.autograd.grad((out * weight).sum(), flat)
        return out.detach(), [grad.float() for grad in grads]

    wanted, wanted_grads = outputs(ExplicitWindows(16, 64), torch.float32)
    found, grads = outputs(FlexWindows(16, 64), torch.bfloat16)
    assert (found - wanted).norm() < 0.01 * wanted.norm()
    for grad, expected in zip(grads, wanted_grads, strict=True):
        assert torch.isfinite(grad).all()
        assert (grad - expected).norm() < 0.03 * expected.norm()


def network_logits(runner: Runner, ids: Sequence[int], memory: SharedAttention) -> Tensor:
    """Logits (T, V) of a whole sequence with this memory."""
    with torch.inference_mode():
        out = runner.model.network(input_ids=torch.tensor([list(ids)]), use_cache=False, kv_context=memory)
    return out.logits[0]
