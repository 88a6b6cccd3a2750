"""The bench: the form of its JSON line, its refusal, its time budget, and that what it builds is what it says."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.speed import __main__ as command
from benchmarks.speed import baselines, equivalence
from benchmarks.speed.bandwidth import Bandwidth
from benchmarks.speed.docpod import Failed, Task, answer, ids_of
from benchmarks.speed.places import Folder, to_device, to_host
from benchmarks.speed.plain import dynamic, plain, static
from benchmarks.speed.random_pods import random_pod
from benchmarks.speed.report import FirstToken, Row, table
from benchmarks.speed.shapes import SHAPES
from benchmarks.speed.subject import random_model, weight_bytes, weights_of
from engine.attention import sdpa
from engine.core.errors import PodMismatch
from engine.core.pinned_staging import Staging
from engine.kvcache.layout import expected_bytes, layout_of
from engine.kvcache.recipe import parse
from engine.models.loader import Model
from engine.runtime.runner import Runner
from tests.engine.reading import plain_greedy, runner_of
from tests.engine.shapes import check

CPU = torch.device("cpu")
BILLIONS = {
    "llama-3.1-8b": 8.03,
    "qwen3-8b": 8.19,
    "qwen3-14b": 14.77,
    "qwen3-4b": 4.02,
    "qwen2.5-0.5b": 0.494,
    "embedded-135m": 0.1345,
}
"""Parameters, as the models' own pages say."""


def small(weights: str = "float32", name: str = "llama-3.1-8b") -> Model:
    return random_model(SHAPES[name].small(), weights, CPU, equivalence.SPREAD)


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_the_model_that_it_names(name: str) -> None:
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(SHAPES[name].config())
    assert sum(each.numel() for each in network.parameters()) / 1e9 == pytest.approx(BILLIONS[name], rel=2e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_a_random_model_is_whole_and_the_same_every_time(name: str, one_thread: None) -> None:
    model, again, other = (random_model(SHAPES[name].small(), "float32", CPU, 0.1, seed) for seed in (0, 0, 1))
    facts = dict(model.network.named_parameters()), dict(model.network.named_buffers())
    assert all(each.device == CPU and each.isfinite().all() for kind in facts for each in kind.values())
    assert all(torch.equal(each, dict(again.network.named_parameters())[name]) for name, each in facts[0].items())
    assert not torch.equal(model.network.lm_head.weight, other.network.lm_head.weight)
    tied = model.network.lm_head.weight is model.network.get_input_embeddings().weight
    assert tied is SHAPES[name].options["tie_word_embeddings"]
    # Rotary frequencies are those of a model made the usual way.
    usual = AutoModelForCausalLM.from_config(SHAPES[name].small().config())
    for name, buffer in usual.named_buffers():
        assert torch.equal(facts[1][name], buffer)
    assert model.tokenizer.decode(model.tokenizer.encode("Read once.")[0]) == "Read once."
    assert weights_of(model) == "float32"


def test_a_token_reads_each_weight_once_and_one_row_of_the_embeddings() -> None:
    for name in ("llama-3.1-8b", "embedded-135m"):
        model = small("bf16", name)
        network = model.network
        numbers = sum(each.numel() for each in network.parameters())
        if not network.config.tie_word_embeddings:
            numbers -= network.get_input_embeddings().weight.numel()
        assert weight_bytes(network) == 2 * numbers
    packed = small("nf4")
    assert weights_of(packed) == "nf4"
    layers = packed.network.model.layers
    four = sum(each.quant_state.shape.numel() for each in layers.parameters() if hasattr(each, "quant_state"))
    # Half a byte each; a byte of scale for 64 of them, and four bytes for 256 of those.
    scales = sum(
        n // 64 + 4 * math.ceil(n / 64 / 256)
        for n in (each.quant_state.shape.numel() for each in layers.parameters() if hasattr(each, "quant_state"))
    )
    whole = 2 * sum(each.numel() for each in layers.parameters() if not hasattr(each, "quant_state"))
    rest = packed.network.model.norm.weight.nbytes + packed.network.lm_head.weight.nbytes
    assert weight_bytes(packed.network) == four // 2 + scales + whole + rest


@pytest.mark.parametrize("recipe", ["exact", "k8v8", "k4v4h", "keep40+k4v4h"])
def test_random_pods_are_pods_of_their_recipe_and_come_back_from_files(
    recipe: str, tmp_path: Path, one_thread: None
) -> None:
    model = small()
    layout = layout_of(model, parse(recipe))
    pod = random_pod(model, layout, 1000)
    check(pod)
    assert pod.num_tokens == 1000
    assert pod.nbytes == pytest.approx(
        expected_bytes(layout, model.shape, 1000), rel=0 if "keep" not in recipe else 0.1
    )
    folder = Folder(tmp_path)
    assert folder.write_pod(pod) >= pod.nbytes
    for copy in (folder.load(model, layout, 1000, Staging(CPU)), to_host(pod), to_device(pod, CPU)):
        check(copy)
        for ours, theirs in zip(pod.segments(2), copy.segments(2), strict=True):
            for group in range(model.shape.kv_heads):
                assert torch.equal(ours.keys[group], theirs.keys[group])
                assert torch.equal(ours.values[group], theirs.values[group])
                assert torch.equal(ours.places(group), theirs.places(group))
    path = sorted(tmp_path.glob("*.block"))[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(PodMismatch, match="damaged"):
        folder.load(model, layout, 1000, Staging(CPU))
    folder.clear()
    assert list(tmp_path.iterdir()) == []


def test_the_baselines_are_transformers_own_answers(tiny_qwen3, one_thread: None) -> None:
    """Through a cache that grows and one of fixed size, from nothing, against `generate`."""
    model = runner_of(tiny_qwen3).model
    ids = ids_of(model, 40)
    wanted = plain_greedy(runner_of(tiny_qwen3), ids, 6)
    with plain(model), torch.inference_mode():
        for memory in (dynamic(model, 0), static(model, 0, 64)):
            tokens = memory.tokens(ids)
            assert [next(tokens) for _ in range(len(wanted))] == wanted
        assert dynamic(model, 100).logits(ids[:3], 2).shape == (2, 512)
    assert model.network.config._attn_implementation == sdpa.NAME
    task = Task("float32", layout_of(model, parse("exact")), 100, 2, 1, True, False, ())
    row = baselines.eager(model, task)
    assert row.kv_bytes == 100 * model.shape.token_bytes and row.decode_tok_s > 0
    assert row.prefill_tok_s and row.first_token_ms.ram and row.first_token_ms.disk is None


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["float32", "bf16", "nf4"])
def test_equivalence_holds(weights: str, one_thread: None) -> None:
    recipes = {name: parse(parts) for name, parts in command.RECIPES.items()}
    lines = equivalence.check(small(weights, "qwen3-4b"), recipes)
    assert [line.split("kv ")[1].split(",")[0] for line in lines] == list(recipes)


@pytest.mark.parametrize(
    ("fault", "weights"),
    [
        ("blind", "float32"),
        ("nan", "bf16"),
        *(pytest.param(fault, "float32", marks=pytest.mark.slow) for fault in ("merge", "values", "nan")),
        *(pytest.param(fault, "bf16", marks=pytest.mark.slow) for fault in ("merge", "values", "blind")),
    ],
)
def test_what_answers_otherwise_is_not_timed(
    fault: str, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    """Wrong shares of segments, values a fifth too large, a tail whose last token is not seen, a NaN."""

    def faulty(query, keys, values, scale, causal):
        if fault == "blind" and query.shape[1] == 1 and keys.shape[1] > 33:
            keys, values = keys[:, :-1], values[:, :-1]
        out, lse = sdpa.fused(query, keys, values, scale, causal)
        distant = not causal and keys.shape[1] > 200
        if distant and fault == "merge":
            lse = lse + 0.5
        if distant and fault == "values":
            out = out * 1.2
        if distant and fault == "nan":
            out = out.clone()
            out[0, 0, 0] = math.nan
        return out, lse

    def measured(device: torch.device) -> Bandwidth:
        raise AssertionError("nothing may be timed")

    monkeypatch.setattr(sdpa, "select_backend", lambda device, dtype: (faulty, "faulty"))
    monkeypatch.setattr("benchmarks.speed.bandwidth.measure", measured)
    monkeypatch.setattr("benchmarks.speed.__main__.from_options", lambda options, say: small(weights))
    with pytest.raises(SystemExit, match="2"):
        command.main(["--quick"], lambda _: None)
    assert "nothing is timed while the answers differ" in capsys.readouterr().err


def test_an_answer_of_no_numbers_is_a_failure(llama_runner: Runner) -> None:
    pod = random_pod(llama_runner.model, layout_of(llama_runner.model, parse("exact")), 40)
    assert answer(llama_runner, pod, [3, 4], 2)[1] > 0
    pod.values[1, 0, 7] = math.nan
    with pytest.raises(Failed, match="40 tokens has probabilities that are no numbers"):
        answer(llama_runner, pod, [3, 4], 2)


@pytest.mark.slow
def test_the_command_ends_with_one_json_line(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.speed.bandwidth._CPU_BYTES", 1 << 20)
    said: list[str] = []
    arguments = ["--quick", "--model", str(tiny_model_dir), "--models", str(tmp_path / "models")]
    arguments += [
        "--lengths",
        "400,300",
        "--stored",
        "400",
        "--kv",
        "bf16,int4,int4s",
        "--tokens",
        "3",
        "--repeats",
        "1",
    ]
    command.main([*arguments, "--out", str(tmp_path / "out")], said.append)
    result = json.loads(said[-1])
    assert list(result) == ["hardware", "shape", "weights", "copy_tb_s", "rows"]
    assert result["shape"] == tiny_model_dir.name and result["copy_tb_s"] > 0
    own = result["weights"]
    order = [(row["system"], row["kv"], row["length"]) for row in result["rows"]]
    systems = [("docpod", own), ("docpod", "int4"), ("docpod", "int4s"), ("transformers", own)]
    assert order == [(*each, length) for length in (300, 400) for each in systems]
    for row in result["rows"]:
        assert list(row) == [
            "system", "kv", "length", "prefill_tok_s", "decode_tok_s", "first_token_ms", "peak_gb", "bytes_per_token",
            "roof_fraction",
        ]  # fmt: skip
        assert list(row["first_token_ms"]) == ["gpu", "ram", "disk"] and row["first_token_ms"]["gpu"] is None
        kept = row["system"] == "docpod" and row["length"] == 400
        assert (row["first_token_ms"]["disk"] is not None) is kept
        numbers = (row["prefill_tok_s"], row["decode_tok_s"], row["first_token_ms"]["ram"], row["peak_gb"])
        assert all(number > 0 for number in numbers) and row["roof_fraction"] > 0
    exact, four, on_the_way = result["rows"][4:7]
    assert exact["bytes_per_token"] > four["bytes_per_token"] == on_the_way["bytes_per_token"]
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == result
    assert (tmp_path / "out" / "bench.md").read_text() in said
    assert sum("CUDA graphs need a GPU" in line for line in said) == 2


def test_rows_behind_the_time_budget_or_the_window_are_named(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.speed.bandwidth._CPU_BYTES", 1 << 20)
    said: list[str] = []
    arguments = ["--quick", "--model", str(tiny_model_dir), "--models", str(tmp_path), "--kv", "bf16"]
    command.main([*arguments, "--lengths", "300,9000", "--seconds", "0.001"], said.append)
    assert json.loads(said[-1])["rows"] == []
    assert [line for line in said if "are over: docpod" in line and "300 tokens" in line]
    assert [line for line in said if "are over: transformers," in line]
    assert [line for line in said if "has 2,048 tokens: 9,000" in line]


def test_a_row_that_fails_costs_that_row_only(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    def full(*facts: object) -> Row:
        raise torch.OutOfMemoryError("no room for it\nand more")

    monkeypatch.setattr("benchmarks.speed.bandwidth._CPU_BYTES", 1 << 20)
    monkeypatch.setattr("benchmarks.speed.docpod.measure", full)
    said: list[str] = []
    arguments = ["--quick", "--model", str(tiny_model_dir), "--models", str(tmp_path), "--kv", "bf16"]
    command.main([*arguments, "--lengths", "300", "--tokens", "2", "--repeats", "1"], said.append)
    assert [row["system"] for row in json.loads(said[-1])["rows"]] == ["transformers"]
    assert [line for line in said if line.startswith("left out: docpod") and line.endswith("no room for it")]


def test_the_roof_is_the_bytes_over_the_bandwidth_of_reading() -> None:
    row = Row("docpod", "int4", 1000, None, 50.0, FirstToken(1.0, None, 20.25), 1.5, 2_000_000, 18_000_000)
    bandwidth = Bandwidth(copy=3e9, read=4e9)
    facts = row.facts(bandwidth)
    # 20 MB a token, 50 tokens a second: 1 GB/s of 4.
    assert facts["roof_fraction"] == 0.25 and facts["bytes_per_token"] == 2000.0
    assert facts["first_token_ms"] == {"gpu": 1.0, "ram": None, "disk": 20.25} and facts["prefill_tok_s"] is None
    (line,) = table([row], bandwidth).splitlines()[2:]
    assert line == "| docpod | int4 | 1,000 | - | 1.0 | - | 20.2 | 50.0 | 0.02 | 25% | 1.5 | 2,000 |"
