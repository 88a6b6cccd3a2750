"""Post-training: it learns, goes on where it stopped, never sees what is held out, and asks only what it told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.fidelity import __main__ as fidelity
from engine.kvcache.sharing_plan import SharingPlan
from engine.models import loader
from engine.runtime.runner import Runner
from engine.training import adapt, adapter, corpus
from engine.training.adaptation import Adaptation, TrainingProgress
from engine.training.corpus import Corpus
from engine.training.distillation import distance
from engine.training.errors import AdaptationFailed, AdapterMismatch
from engine.training.settings import Limits, TrainingSettings
from engine.training.shared_attention import ExplicitWindows, SharedAttention
from engine.training.student import LowRankStudent
from tests import tiny
from tests.engine.reading import runner_of, some_ids, some_maps
from tests.engine.reports import TEXTS, report_corpus

pytestmark = pytest.mark.slow

ROOTS = ((0, 0), (0, 1), (2, 1), (2, 1))
SMALL = TrainingSettings(sinks=2, recent=8, rank=8, length=96, warm_up=2, recall_share=0.0)


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    """Sixty reports, of which some are held out."""
    return report_corpus(tmp_path)


def losses(progress: Iterator[TrainingProgress]) -> list[tuple[float, float, float]]:
    """KL, cross entropy and agreement of every step."""
    return [(step.kl, step.ce, step.agreement) for step in progress]


def windows(ids: np.ndarray, size: int) -> set[bytes]:
    """Every run of so many ids."""
    return {ids[start : start + size].tobytes() for start in range(len(ids) - size + 1)}


@pytest.mark.parametrize("mode", ["A", "B", "linear"])
@pytest.mark.parametrize("all_weights", [False, True])
def test_one_sequence_is_learned_by_heart(
    llama_runner: Runner, text: Corpus, monkeypatch: pytest.MonkeyPatch, mode: str, all_weights: bool
) -> None:
    settings = replace(SMALL, mode=mode, all_weights=all_weights, learning_rate=2e-3, ce_weight=0.0, sequences=1)
    roots, maps = ROOTS, some_maps(llama_runner) if mode == "linear" else None
    if maps is not None:
        roots = tuple((root,) * len(ROOTS[0]) for root in maps.roots)
    adaptation = Adaptation(llama_runner.model, roots, settings, text, maps)
    always = adaptation.sequence(0)
    monkeypatch.setattr(adaptation, "sequence", lambda number: always)
    steps = list(adaptation.run(Limits(0, 80)))
    assert steps[0].kl > 0.1
    assert steps[-1].kl < 0.2 * steps[0].kl
    assert steps[-1].agreement > steps[0].agreement


@pytest.mark.parametrize("first", [0, 40])
def test_merged_additions_learn_what_additions_beside_the_weights_learn(first: int) -> None:
    """Gradients over two sequences, by the chain rule of the product and by autograd through hooks."""
    found = []
    for quantized in (False, True):
        network = runner_of(tiny.llama()).model.network
        network.is_quantized = quantized
        student = LowRankStudent(network, 4, 2.0, 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in student.weights.values():
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        for seed in (2, 3):
            ids = torch.tensor(some_ids(runner_of(tiny.llama()), 61, seed))
            memory = SharedAttention(ROOTS, "A", ExplicitWindows(2, 8), first=first)
            taught = student.taught(ids[:-1], SharedAttention((), "dense", ExplicitWindows(2, 8)))
            distant = distance(student, student.learned(ids[:-1], memory)[first:], taught[first:], ids[first + 1 :])
            (distant.kl + distant.ce).backward()
        student.settle()
        found.append({name: weight.grad for name, weight in student.weights.items()})
    merged, beside = found
    for name, grad in beside.items():
        assert grad is not None and grad.abs().max() > 0
        torch.testing.assert_close(merged[name], grad, rtol=1e-3, atol=1e-5)


def test_without_sharing_there_is_nothing_to_learn(llama_runner: Runner, text: Corpus) -> None:
    settings = replace(SMALL, mode="dense", ce_weight=0.0)
    adaptation = Adaptation(llama_runner.model, (), settings, text)
    held = adaptation.held_out()
    assert abs(held.kl) < 1e-6 and held.ce == pytest.approx(held.teacher_ce) and held.agreement == 1.0
    (step,) = adaptation.run(Limits(0, 1))
    assert abs(step.kl) < 1e-6 and step.agreement == 1.0


def test_the_distance_is_that_of_the_definition(llama_runner: Runner) -> None:
    """In pieces of 7 positions, against float64 in one go; gradients too."""
    ids = torch.tensor(some_ids(llama_runner, 51, 0))
    student = LowRankStudent(llama_runner.model.network, 4, 2.0, 0)
    memory = SharedAttention(ROOTS, "A", ExplicitWindows(2, 8))
    taught = student.taught(ids[:-1], SharedAttention((), "dense", ExplicitWindows(2, 8)))
    learned = student.learned(ids[:-1], memory).detach().requires_grad_()
    found = distance(student, learned, taught, ids[1:], piece=7)
    head = llama_runner.model.network.lm_head.weight.double()
    exact = learned.detach().double().requires_grad_()
    expected, guessed = ((hidden @ head.T).log_softmax(-1) for hidden in (taught.double(), exact))
    kl = (expected.exp() * (expected - guessed)).sum(-1).mean()
    ce, teacher_ce = (torch.nn.functional.nll_loss(rows, ids[1:]) for rows in (guessed, expected))
    agreement = (expected.argmax(-1) == guessed.argmax(-1)).double().mean()
    measured = (found.kl, found.ce, found.teacher_ce, found.agreement)
    for value, wanted in zip(measured, (kl, ce, teacher_ce, agreement), strict=True):
        assert float(value.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    (grad,) = torch.autograd.grad(found.kl + 0.1 * found.ce, learned)
    (wanted_grad,) = torch.autograd.grad(kl + 0.1 * ce, exact)
    torch.testing.assert_close(grad.double(), wanted_grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("all_weights", [False, True])
def test_a_resumed_training_is_the_same_training(
    text: Corpus, tmp_path: Path, one_thread: None, all_weights: bool
) -> None:
    settings = replace(SMALL, recall_share=0.4, length=600, all_weights=all_weights)
    whole = Adaptation(runner_of(tiny.llama()).model, ROOTS, settings, text)
    expected = losses(whole.run(Limits(0, 6)))
    first = Adaptation(runner_of(tiny.llama()).model, ROOTS, settings, text)
    steps = first.run(Limits(0, 6))
    before = losses(islice(steps, 3))
    first.save_state(tmp_path / "state.pt")
    second = Adaptation(runner_of(tiny.llama()).model, ROOTS, settings, text)
    second.restore(tmp_path / "state.pt")
    after = losses(second.run(Limits(0, 6)))
    assert before + after == expected
    assert second.history == whole.history
    made, wanted = second.adapter({}), whole.adapter({})
    assert all(torch.equal(made.weights[name], weight) for name, weight in wanted.weights.items())
    assert list(tmp_path.glob("state.pt*")) == [tmp_path / "state.pt"]


def test_a_state_of_other_settings_is_refused(llama_runner: Runner, text: Corpus, tmp_path: Path) -> None:
    Adaptation(llama_runner.model, ROOTS, SMALL, text).save_state(tmp_path / "state.pt")
    others = replace(SMALL, mode="B"), replace(SMALL, rounded="k4v4")
    for settings, roots in (*((each, ROOTS) for each in others), (SMALL, ((0, 0), (0, 0), (2, 0), (2, 0)))):
        with pytest.raises(AdaptationFailed, match="made with another model"):
            Adaptation(llama_runner.model, roots, settings, text).restore(tmp_path / "state.pt")


def test_a_training_begins_with_what_another_has_learned(text: Corpus) -> None:
    first = Adaptation(runner_of(tiny.llama()).model, ROOTS, SMALL, text)
    list(first.run(Limits(0, 4)))
    learned = first.held_out()
    second = Adaptation(runner_of(tiny.llama()).model, ROOTS, replace(SMALL, seed=1), text)
    assert second.held_out() != learned
    # What is learned is kept in the model's own dtype, which is float32 here.
    second.start(first.adapter({}))
    assert second.held_out() == learned and second.step == 0
    with pytest.raises(AdaptationFailed, match="is no start here"):
        Adaptation(runner_of(tiny.llama()).model, ROOTS, replace(SMALL, rank=4), text).start(first.adapter({}))


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    limits, settings = Limits(0, 100), replace(SMALL, warm_up=10)
    rates = [limits.rate(settings, 0, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4, rel=1e-3)
    assert max(rates) == rates[9] and rates[9] > 0.97e-3
    assert all(after < before for before, after in pairwise(rates[9:]))
    assert Limits(10, 0).rate(settings, 5, 50) == pytest.approx(0.525e-3)
    assert Limits(10, 100).used(9, 20) == 0.9


@pytest.mark.parametrize(
    ("roots", "settings", "reason"),
    [
        ((), SMALL, "need a plan"),
        (ROOTS, replace(SMALL, mode="dense"), "takes none"),
        (ROOTS, replace(SMALL, mode="C"), "modes are"),
        (ROOTS[:3], SMALL, "other layers"),
        (ROOTS, replace(SMALL, length=4096), "window"),
        (ROOTS, replace(SMALL, recent=0), "recent"),
    ],
)
def test_what_does_not_go_together_is_refused(
    llama_runner: Runner, text: Corpus, roots: tuple[tuple[int, ...], ...], settings: TrainingSettings, reason: str
) -> None:
    with pytest.raises(AdaptationFailed, match=reason):
        Adaptation(llama_runner.model, roots, settings, text)
    with pytest.raises(AdaptationFailed, match="too few"):
        Adaptation(llama_runner.model, ROOTS, SMALL, replace(text, train=text.train[:96]))


def test_a_loss_that_is_no_number_ends_the_training(llama_runner: Runner, text: Corpus) -> None:
    adaptation = Adaptation(llama_runner.model, ROOTS, replace(SMALL, learning_rate=float("inf")), text)
    with pytest.raises(AdaptationFailed, match="no number"):
        list(adaptation.run(Limits(0, 5)))


def test_held_out_text_is_in_no_training_sequence(llama_runner: Runner, text: Corpus) -> None:
    assert 0 < text.num_held < text.num_texts == len(TEXTS)
    tokenizer = llama_runner.model.tokenizer
    held = [part for part in TEXTS if corpus.is_held_out(part)]
    assert len(held) == text.num_held
    assert all(part in tokenizer.decode(text.held.tolist()) for part in held)
    adaptation = Adaptation(llama_runner.model, ROOTS, replace(SMALL, length=400, recall_share=0.5), text)
    others = "\n\n".join(part for part in TEXTS if part not in held)
    unseen = windows(text.held, 60) - windows(np.array(tokenizer.encode(others)[0], np.int32), 60)
    assert unseen
    for number in range(60):
        assert not unseen & windows(np.array(adaptation.sequence(number), np.int32), 60)


def test_the_command_line(tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder of texts to a file that the model takes on; then on from its state, and a control."""
    (tmp_path / "texts").mkdir()
    for number, one in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(one)
    lines: list[str] = []
    command = ["--model", str(tiny_model_dir), "--models", str(tmp_path / "models"), "--text", str(tmp_path / "texts")]
    command += ["--length", "800", "--n-recent", "32", "--rank", "4", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        adapt.main([*command, "--steps", "2"], lines.append)
    assert "no sharing plan" in capsys.readouterr().err
    model = adapt.loader.load(str(tiny_model_dir), tmp_path / "models", lines.append)
    SharingPlan(model.name, model.digest, ROOTS, {}).save(tmp_path / "out")
    shared = [*command, "--plan-saving", str(SharingPlan("", "", ROOTS, {}).saving)]
    adapt.main([*shared, "--steps", "2"], lines.append)
    result = json.loads(lines[-1])
    assert result["steps"] == 2 and result["tokens"] == 3200 and result["bytes"] > 1000
    assert result["held_before"]["kl"] > 0.01 and set(result["held_after"]) == set(result["held_before"])
    made = adapter.load(Path(result["adapter"]))
    assert (made.mode, made.roots, made.recent, made.rank) == ("A", ROOTS, 32, 4)
    assert [entry[0] for entry in made.facts["curve"]] == [1, 2]
    assert adapter.apply(made, model.network, model.digest) is not None
    adapt.main([*shared, "--steps", "3", "--resume"], lines.append)
    assert any(line.startswith("going on after step 2") for line in lines)
    assert json.loads(lines[-1])["steps"] == 3
    assert json.loads(lines[-1])["held_before"] == result["held_before"]
    learned = adapter.load(Path(result["adapter"]))
    on = ["--steps", "1", "--start", result["adapter"], "--seed", "1"]
    adapt.main([*shared, *on], lines.append)
    started = json.loads(lines[-1])
    assert started["steps"] == 1 and started["started_from"] == learned.digest and started["started_after_steps"] == 3
    some_maps(Runner(model)).save(tmp_path / "out", model, 0.3)
    adapt.main([*command, "--plan-saving", "0.3", "--mode", "linear", "--steps", "1"], lines.append)
    linear = json.loads(lines[-1])
    assert linear["saving"] == 0.375 and adapter.load(Path(linear["adapter"])).mode == "linear"
    adapt.main([*command, "--steps", "1", "--dense"], lines.append)
    assert json.loads(lines[-1])["adapter"].endswith(".dense.safetensors")
    assert abs(json.loads(lines[-1])["held_before"]["kl"]) < 1e-6
    foreign = SharingPlan("other", "f" * 64, ROOTS, {}).save(tmp_path / "plans")
    with pytest.raises(SystemExit, match="2"):
        adapt.main([*command, "--plan", str(foreign)], lines.append)
    assert "other weights" in capsys.readouterr().err


def test_an_adapted_model_is_measured_beside_the_one_before(
    tiny_model_dir: Path, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.fidelity.planting.LIST_ROWS", 8)
    lines: list[str] = []
    model = loader.load(str(tiny_model_dir), tmp_path, lines.append)
    plan = SharingPlan(model.name, model.digest, ROOTS, {})
    plan.save(tmp_path, 0.35)
    command = ["--model", str(tiny_model_dir), "--models", str(tmp_path)]
    training = ["--length", "300", "--steps", "2", "--n-recent", "32", "--rank", "2", "--out", str(tmp_path)]
    adapt.main([*command, *training], lines.append)
    name = Path(json.loads(lines[-1])["adapter"]).stem
    with pytest.raises(AdapterMismatch, match="is no adapter"):
        adapter.adapt_network(tmp_path / "another.safetensors", model)
    with pytest.raises(AdapterMismatch, match="not for these weights"):
        adapter.adapt_network(tmp_path / f"{name}.safetensors", replace(model, digest="f" * 64))
    measured = [*command, "--lengths", "1100", "--limit", "1", "--recipes", f"A35+adapter={name}+near16,32"]
    fidelity.main(measured, lines.append)
    exact, shared = json.loads(lines[-1])["rows"]
    assert shared["kl_mean"] > 0 == exact["kl_mean"]
    assert shared["bytes_per_token"] < exact["bytes_per_token"]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["A", "B"])
@pytest.mark.parametrize("all_weights", [False, True])
def test_one_sequence_is_learned_by_heart_on_a_gpu(
    text: Corpus, monkeypatch: pytest.MonkeyPatch, mode: str, all_weights: bool
) -> None:
    """In bfloat16, through compiled FlexAttention and its gradients."""
    torch.use_deterministic_algorithms(False)
    torch._dynamo.reset()
    runner = runner_of(tiny.llama().to("cuda", torch.bfloat16))
    settings = replace(SMALL, mode=mode, all_weights=all_weights, learning_rate=2e-3, ce_weight=0.0, length=500)
    adaptation = Adaptation(runner.model, ROOTS, settings, text)
    always = adaptation.sequence(0)
    monkeypatch.setattr(adaptation, "sequence", lambda number: always)
    steps = list(adaptation.run(Limits(0, 80)))
    assert steps[-1].kl < 0.5 * steps[0].kl
    assert adaptation.held_out().kl > 0
