"""Reading with Triton's operations around the products: what PyTorch's own say, for every family and NF4."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed import equivalence
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.subject import random_model
from engine.attention import rotation
from engine.kernels.linear.weights import weight_of
from engine.kernels.quant.rotate import TritonRotation
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.recipe import parse
from engine.kvcache.suffix import SuffixCache
from engine.models.decoder import FlatModel, flatten
from engine.models.loader import Model
from engine.models.ops import PlainOps, Weight
from engine.models.ops_triton import FEW_ROWS, TritonOps
from engine.runtime.prefill.builder import PodBuilder, builder_for
from engine.runtime.runner import Runner
from tests.engine.kernels import reference_linear
from tests.engine.reading import some_ids

COUNT = FEW_ROWS + 37


class Unpacked(PlainOps):
    """PyTorch's operations on the matrices that packed weights stand for."""

    def take(self, *projections: nn.Module) -> Sequence[Weight]:
        return [self._unpacked(each) for each in projections]

    def _unpacked(self, module: nn.Module) -> nn.Module:
        if (weight := weight_of(module)) is None:
            return module
        linear = nn.Linear(weight.columns, weight.rows, bias=weight.bias is not None)
        linear.weight.data = reference_linear.dequantized(weight)
        if weight.bias is not None:
            linear.bias.data = weight.bias
        return linear


def logits(runner: Runner, ops: PlainOps, chunks: Sequence[int]) -> Tensor:
    """Of all tokens of some chunks of so many."""
    model = runner.model
    flat = flatten(model, ops)
    assert isinstance(flat, FlatModel) and flat.ops is ops
    ids, context = (
        some_ids(runner, sum(chunks), 1),
        runner.context((), SuffixCache(model.shape, sum(chunks), model.device)),
    )
    found = []
    with torch.inference_mode():
        for count in chunks:
            start = context.suffix.length
            new, positions = torch.tensor(ids[start : start + count]), torch.arange(start, start + count)
            found.append(flat.forward(new, positions, context, count))
            context.suffix.advance(count)
    return torch.cat(found)


def test_every_family(tiny_runner: Runner) -> None:
    ours, wanted = (logits(tiny_runner, ops, (9, COUNT)) for ops in (TritonOps(), PlainOps()))
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


def test_logits_are_not_rounded(one_thread: None) -> None:
    """In float32 whatever the head is in, by a kernel or by PyTorch; the interpreter knows float16, not bfloat16."""
    torch.manual_seed(0)
    head, gain = nn.Linear(64, 300, bias=False, dtype=torch.float16), torch.rand(64).half()
    ops = TritonOps(int8_head=False)
    for rows in (1, 8, 9, 70):
        x = torch.randn(rows, 64).half()
        with torch.no_grad():
            ours, largest = ops.logits(x, ops.take_head(head), (gain, 1e-5)).max(1)
        wide = nn.functional.rms_norm(x.float(), (64,), gain.float(), 1e-5)
        exact, token = (wide @ head.weight.float().T).max(1)
        assert ours.dtype == torch.float32 and torch.equal(largest, token)
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", (pytest.param("llama-3.1-8b", marks=pytest.mark.slow), "qwen3-4b"))
def test_weights_of_four_bits(name: str, one_thread: None) -> None:
    shape = SHAPES[name].small()
    model = random_model(
        replace(shape, options={**shape.options, "num_hidden_layers": 1}),
        "nf4",
        torch.device("cpu"),
        equivalence.SPREAD,
    )
    runner = Runner(in_float32(model))
    ours, wanted = (logits(runner, ops, (COUNT,)) for ops in (TritonOps(), Unpacked()))
    assert float((ours - wanted).square().mean().sqrt()) < 1e-3 * float(wanted.std())


def in_float32(model: Model) -> Model:
    """The same weights, but numbers of float32, which the interpreter rounds as it should."""
    for module in model.network.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                module._parameters[name] = torch.nn.Parameter(parameter.float(), requires_grad=False)
    return replace(model, shape=replace(model.shape, dtype=torch.float32))


def test_a_section_is_packed_as_by_plain_pytorch(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes may differ where a number lies between two of them."""
    plan = Layout(parse("k4v4hs+near4,32"), tuple((layer, layer) for layer in range(4)))
    ids = some_ids(llama_runner, 400, 2)

    def built() -> QuantizedPod:
        builder = builder_for(llama_runner, len(ids), plan)
        while builder.num_read < len(ids):
            builder.feed(ids[builder.num_read : builder.cut(128)])
        pod = builder.finish()
        assert isinstance(pod, QuantizedPod)
        return pod

    wanted = built()
    monkeypatch.setattr(rotation, "select_rotation", lambda device, dtype: TritonRotation())
    pod = built()
    torch.testing.assert_close(pod.proximal.values, wanted.proximal.values, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(pod.distant, wanted.distant, strict=True):
        for a, b in zip((*ours.keys, *ours.values), (*theirs.keys, *theirs.values), strict=True):
            assert (a.codes == b.codes).float().mean() > 0.99


def test_a_long_chunk_is_read_the_same_by_both_runners(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, COUNT, 3)
    pods = []
    for runner in (llama_runner, Runner(llama_runner.model, graphs=True)):
        builder = PodBuilder(runner, COUNT)
        builder.feed(ids)
        pods.append(builder.finish())
    torch.testing.assert_close(pods[1].keys, pods[0].keys, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pods[1].values, pods[0].values, rtol=1e-3, atol=1e-4)
