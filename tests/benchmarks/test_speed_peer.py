"""Beside llama.cpp: the file that it reads is the network, and what it says decides whether anything is timed."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GgufConfig

from benchmarks.speed import gguf_file, peer
from benchmarks.speed.equivalence import NotEquivalent
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.subject import random_model
from engine.kvcache.suffix import SuffixCache
from engine.models.loader import Model
from engine.runtime.runner import Runner


def small(name: str) -> Model:
    return random_model(SHAPES[name].small(), "float32", torch.device("cpu"), 0.05)


class Double:
    """llama.cpp as far as it is asked: another runner of the same model, off by so much."""

    def __init__(self, model: Model, off: float) -> None:
        self._runner, self._off = Runner(model), off
        self.asked: list[tuple[int, int, bool]] = []

    def ask(self, ids: Sequence[int], tokens: int, reuse: bool, likeliest: int = 0) -> dict[str, Any]:
        self.asked.append((len(ids), tokens, reuse))
        if not likeliest:
            return {"timings": {"prompt_per_second": 50.0, "predicted_per_second": 4.0}}
        shape = self._runner.model.shape
        context = self._runner.context([], SuffixCache(shape, len(ids), torch.device("cpu")))
        top = torch.log_softmax(self._runner.run(context, ids), -1).topk(likeliest)
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        said = [{"id": token, "logprob": logprob + self._off} for token, logprob in pairs]
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": said}]}}]}


@pytest.mark.parametrize(("name", "linears"), [("embedded-135m", "Q4_1"), ("qwen2.5-0.5b", "Q4_0")])
def test_the_file_is_the_network(name: str, linears: str, tmp_path: Path) -> None:
    """Read by transformers' own reader of GGUF."""
    network = small(name).network
    before = network.model.layers[1].mlp.up_proj.weight.clone()
    gguf_file.write(network, tmp_path / "net.gguf", linears)
    assert not torch.equal(network.model.layers[1].mlp.up_proj.weight, before)
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="net.gguf", dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    ids = torch.randint(2, 500, (1, 40), generator=torch.Generator().manual_seed(0))
    network.set_attn_implementation("eager")
    with torch.no_grad():
        ours, theirs = network(input_ids=ids).logits, read(input_ids=ids).logits
    # But for bfloat16, to which the network's own weights are rounded.
    assert float((ours - theirs).square().mean().sqrt() / theirs.std()) < 0.03


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(peer.PeerFailed, match="qwen3 networks"):
        peer.report(small("qwen3-4b"), [64], 2, 1, print)


def test_nothing_is_timed_while_it_says_something_else() -> None:
    model = small("embedded-135m")
    for off in (1.0, float("nan")):
        with pytest.raises(NotEquivalent, match="nothing is timed"):
            peer.check(Runner(model), Double(model, off))  # type: ignore[arg-type]
    assert "20 likeliest" in peer.check(Runner(model), Double(model, 0.0))  # type: ignore[arg-type]


def test_a_row_compares_reading_and_decoding_of_the_same_ids() -> None:
    model = small("embedded-135m")
    other = Double(model, 0.0)
    row = peer.measure(Runner(model), other, 70, 3, 2)  # type: ignore[arg-type]
    # A turn that does not count, then two: read anew, then asked about what was read.
    assert other.asked == 3 * [(70, 1, False), (102, 4, True)]
    assert row.prefill_ratio == pytest.approx(row.prefill_tok_s / 50, rel=1e-2)
    assert row.decode_ratio == pytest.approx(row.decode_tok_s / 4, rel=1e-2)


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(peer.PeerMissing, match="requirements-dev"):
        peer.LlamaCpp(tmp_path / "none.gguf", 1, 512)
