"""Adapting a model to sharing: what is trained on, that it learns, and that it goes on where it was."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import adapt, low_rank, models, recall, sharing
from engine.adaptation import Adaptation, Schedule
from engine.errors import CalibrationFailed, PlanMissing
from engine.fidelity import __main__ as fidelity
from engine.layout import Layout, layout_of
from engine.low_rank import LowRank
from engine.models import Model
from engine.recall import Corpus
from engine.recipes import parse
from engine.runner import Runner
from engine.sharing import SharingPlan
from engine.tokenizer import Tokenizer
from tests import tiny
from tests.engine.reading import runner_of, some_ids

PLAN = Layout(parse("A35s+near2,8"), ((0, 0), (0, 1), (0, 1), (3, 1)))
QUICK = Schedule(steps=6, length=96, accumulated=1, warmup_steps=2, rate=3e-3)


def corpus(runner: Runner) -> Corpus:
    words = [a + b for a in ("stone", "river", "cloud", "lamp", "wheel") for b in ("bridge", "gate", "house", "light")]
    return Corpus(some_ids(runner, 4000, 1), some_ids(runner, 500, 2), words)


def logits(model: Model, ids: list[int]) -> torch.Tensor:
    from engine.shared_attention import SharedAttention

    with torch.no_grad():
        return model.network(
            input_ids=torch.tensor([ids]),
            position_ids=torch.arange(len(ids))[None],
            use_cache=False,
            memory=SharedAttention(None),
        ).logits[0]


def test_fresh_additions_add_nothing_and_merged_ones_are_hooked_ones(tiny_runner: Runner, tmp_path: Path) -> None:
    model, ids = tiny_runner.model, some_ids(tiny_runner, 40, 3)
    made = LowRank(model.network, rank=4)
    assert len(made.down) == 4 * 4
    before = logits(model, ids)
    with made.attached(model.network):
        assert torch.equal(logits(model, ids), before)
        for value in made.up.values():
            torch.nn.init.normal_(value, std=0.05, generator=torch.Generator().manual_seed(1))
        changed = logits(model, ids)
        made.active = False
        assert torch.equal(logits(model, ids), before)
        made.active = True
    assert torch.equal(logits(model, ids), before) and (changed - before).abs().max() > 0.1
    facts = {"model": "tiny", "model_digest": model.digest, "rank": 4, "steps": 9}
    made.save(tmp_path / "a" / "b.safetensors", facts)
    found = low_rank.facts_of(tmp_path / "a" / "b.safetensors")
    assert {key: found[key] for key in facts} == facts and len(found["digest"]) == 64
    again = low_rank.load(tmp_path / "a" / "b.safetensors", model.network, model.digest)
    with pytest.raises(PlanMissing, match="other weights"):
        low_rank.load(tmp_path / "a" / "b.safetensors", model.network, "f" * 64)
    again.merge(model.network)
    # The file holds bfloat16.
    torch.testing.assert_close(logits(model, ids), changed, rtol=0.02, atol=0.02)


def test_hidden_facts_stand_in_the_text_before_they_are_asked_for() -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    words = [a + b for a in ("stone", "river", "cloud", "lamp", "wheel") for b in ("bridge", "gate", "house", "light")]
    piece = tokenizer.encode("The quiet sea lay under a grey sky. " * 400)[0][:9000]
    for seed in range(6):
        ids = recall.with_facts(piece, words, tokenizer, random.Random(seed))
        text = tokenizer.decode(ids)
        assert len(ids) == len(piece)
        answers = [word for word in words if text.count(word) > 1]
        assert len(answers) >= 6
        first = min(text.index(word) for word in answers)
        assert first < len(text) / 2 and text.rindex(answers[0]) > len(text) / 2


def test_held_out_text_is_never_trained_on(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny.tokenizer())
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(300)]
    (tmp_path / "a.txt").write_text(" ".join(rng.choice(words) for _ in range(60_000)))
    made = recall.load(tokenizer, [tmp_path])
    whole = len((tmp_path / "a.txt").read_text())
    assert len(made.train) + len(made.held_out) == whole and 0.02 < len(made.held_out) / whole < 0.3
    assert made == recall.load(tokenizer, [tmp_path])
    train, held = tokenizer.decode(made.train), tokenizer.decode(made.held_out)
    assert held[100:400] not in train
    for seed in range(30):
        text = tokenizer.decode(recall.sequence(made, tokenizer, 2000, str(seed)))
        assert held[200:260] not in text
    assert recall.sequence(made, tokenizer, 500, "5") == recall.sequence(made, tokenizer, 500, "5")
    (tmp_path / "a.txt").write_text("too little")
    with pytest.raises(CalibrationFailed, match="too little text"):
        recall.load(tokenizer, [tmp_path])


@pytest.mark.parametrize(("mode", "rank"), (("A", 16), ("B", 16), ("A", 0)))
def test_it_overfits_one_batch(mode: str, rank: int, llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on one sequence, the divergence that sharing brings falls to a fraction."""
    ids = some_ids(llama_runner, 97, 5)
    monkeypatch.setattr("engine.adaptation.sequence", lambda *_: ids)
    monkeypatch.setattr("engine.adaptation.TEXT_WEIGHT", 0.0)
    plan = Layout(replace(PLAN.recipe, mode=mode), PLAN.roots)
    schedule = replace(QUICK, steps=150, rate=1e-2)
    curve = [each.kl for each in Adaptation(llama_runner.model, plan, corpus(llama_runner), schedule, rank).run()]
    assert curve[0] > 0.05 and curve[-1] < 0.1 * curve[0]


def test_what_is_interrupted_goes_on_with_the_same_losses(tmp_path: Path, one_thread: None) -> None:
    def training() -> Adaptation:
        runner = runner_of(tiny.llama())
        return Adaptation(runner.model, PLAN, corpus(runner), QUICK, 4)

    whole = training()
    expected = [(each.kl, each.ce) for each in whole.run()]
    first = training()
    part = first.run()
    begun = [next(part) for _ in range(3)]
    first.keep(tmp_path / "state.pt")
    second = training()
    second.resume(tmp_path / "state.pt")
    rest = list(second.run())
    assert [(each.kl, each.ce) for each in (*begun, *rest)] == expected
    assert [each.step for each in rest] == [4, 5, 6]
    with pytest.raises(CalibrationFailed, match="another model, plan"):
        Adaptation(second._model, PLAN, second._corpus, replace(QUICK, seed=3), 4).resume(tmp_path / "state.pt")
    for name, value in whole.adapter.state_dict().items():
        assert torch.equal(value, second.adapter.state_dict()[name])


def test_all_weights_are_trained_in_a_copy_and_found_again(llama_runner: Runner, tmp_path: Path) -> None:
    model, ids = llama_runner.model, some_ids(llama_runner, 40, 7)
    before = logits(model, ids)
    training = Adaptation(model, PLAN, corpus(llama_runner), replace(QUICK, steps=3, rate=1e-3), rank=0)
    assert len(list(training.run())) == 3
    assert torch.equal(logits(model, ids), before), "the teacher has changed"
    training.adapter.save(tmp_path / "all.safetensors", {"model": "tiny", "model_digest": model.digest})
    with pytest.raises(PlanMissing, match="other weights"):
        models.adapted(replace(model, digest="f" * 64), "all", tmp_path)
    changed = models.adapted(model, "all", tmp_path)
    assert changed.digest != model.digest == changed.base_digest
    assert (logits(changed, ids) - before).abs().max() > 1e-3


def test_the_dense_control_starts_where_the_model_is(llama_runner: Runner) -> None:
    model = llama_runner.model
    control = Adaptation(model, None, corpus(llama_runner), QUICK, 4)
    held_out = control.evaluate()
    assert held_out["kl"] < 1e-6 and held_out["agreement"] == 1.0 and held_out["dense"] == held_out["adapted"]
    shared = Adaptation(model, PLAN, corpus(llama_runner), QUICK, 4).evaluate()
    assert shared["kl"] > 0.01 and shared["dense"] == held_out["dense"]


def test_the_command_makes_an_adapter(
    tiny_model_dir: Path,
    tmp_path: Path,
    one_thread: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.fidelity.planting.LIST_ROWS", 8)
    model = models.load(str(tiny_model_dir), tmp_path, lambda _: None)
    shape = model.shape
    roots = [[layer] * shape.kv_heads for layer in range(shape.layers)]
    roots[1] = roots[0]
    plan = SharingPlan(model.name, model.digest, tuple(map(tuple, roots)), {})
    plan.save(tmp_path / "plans", 0.35)
    assert sharing.find(model.name, model.digest, 0.35, tmp_path / "plans") == plan
    said: list[str] = []
    shared = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--out", str(tmp_path / "plans")]
    arguments = [*shared, "--steps", "3", "--length", "128", "--rank", "2", "--recent", "16", "--every", "1"]
    adapt.main(arguments, said.append)
    result = json.loads(said[-1])
    assert result["steps"] == 3 and result["recipe"] == "A35s+near16,16" and result["held_out_before"]["kl"] > 0
    path = Path(result["file"])
    assert path.stat().st_size == result["bytes"]
    assert low_rank.facts_of(path)["roots"] == roots
    adapt.main(
        [*arguments[:-6], "--rank", "2", "--steps", "4", "--recent", "16", "--every", "1", "--resume"], said.append
    )
    assert "Goes on at step 3." in said and json.loads(said[-1])["steps"] == 4
    folder = tmp_path / "plans"
    fresh = models.load(str(tiny_model_dir), tmp_path, lambda _: None)
    changed = models.adapted(fresh, "adapter", folder)
    assert changed.digest != model.digest == changed.base_digest == fresh.base_digest
    assert layout_of(changed, parse("A35+adapter=adapter"), [folder]).roots == plan.roots
    with pytest.raises(PlanMissing, match="no adapter"):
        models.adapted(fresh, "another", folder)
    measured = ["--model", str(tiny_model_dir), "--models", str(folder), "--lengths", "1100", "--limit", "1"]
    fidelity.main([*measured, "--recipes", "A35s+adapter=adapter+near16,16"], said.append)
    exact, sharing_row = json.loads(said[-1])["rows"]
    assert sharing_row["kl_mean"] > 0 == exact["kl_mean"]
    assert sharing_row["bytes_per_token"] < exact["bytes_per_token"]
    with pytest.raises(SystemExit, match="2"):
        adapt.main([*shared, "--saving", "0.2"], said.append)
    assert "no plan" in capsys.readouterr().err
