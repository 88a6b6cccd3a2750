"""Blocks of layers and the plans made of them: three criteria by hand, savings, files, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.core.errors import CalibrationFailed, PlanMissing
from engine.kvcache import sharing_plan
from engine.kvcache.sharing_plan import SharingPlan
from engine.models import embedded
from engine.training.sharing import plan_search
from engine.training.sharing.blocks import by_saving, by_threshold, strengths

PLAN = SharingPlan("someone/a-model", "d" * 64, ((0, 0), (0, 1), (2, 1), (2, 3)), {"criterion": "block", "seed": 0})
# One head, four layers: 0 and 1 alike, 1 and 2 alike, 0 and 2 not, 3 like 0 alone.
ALIKE = torch.tensor([[[1.0, 0.9, 0.3, 0.8], [0.9, 1.0, 0.7, 0.2], [0.3, 0.7, 1.0, 0.6], [0.8, 0.2, 0.6, 1.0]]])


@pytest.mark.parametrize(
    ("criterion", "threshold", "roots"),
    (
        ("block", 0.5, [0, 0, 2, 2]),
        ("root", 0.5, [0, 0, 2, 2]),
        ("root", 0.25, [0, 0, 0, 0]),
        ("previous", 0.5, [0, 0, 0, 0]),
        ("previous", 0.65, [0, 0, 0, 3]),
        ("block", 0.25, [0, 0, 0, 3]),
        ("block", 0.1, [0, 0, 0, 0]),
        ("block", 1.01, [0, 1, 2, 3]),
    ),
)
def test_the_criteria_by_hand(criterion: str, threshold: float, roots: list[int]) -> None:
    assert [row[0] for row in by_threshold(strengths(ALIKE, criterion), threshold)] == roots


def test_the_first_layers_bound_blocks() -> None:
    assert [row[0] for row in by_threshold(strengths(ALIKE, "previous", excluded=2), 0.0)] == [0, 1, 2, 2]
    with pytest.raises(CalibrationFailed, match="no criterion"):
        strengths(ALIKE, "best")


@pytest.mark.parametrize("saving", (0.1, 0.2, 0.35, 0.45))
def test_savings_are_met_as_nearly_as_blocks_allow(saving: float) -> None:
    alike = torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(4))
    roots, threshold = by_saving(strengths((alike + alike.transpose(1, 2)) / 2), saving)
    plan = SharingPlan("m", "d", roots, {})
    assert plan.saving == pytest.approx(saving, abs=0.006)
    assert roots == by_threshold(strengths((alike + alike.transpose(1, 2)) / 2), threshold)
    with pytest.raises(CalibrationFailed, match="at most"):
        by_saving(strengths(alike, excluded=20), 0.45)


def test_a_plan_comes_back_for_its_model_only(tmp_path: Path) -> None:
    assert PLAN.saving == 3 / 16
    path = PLAN.save(tmp_path / "made", 0.2)
    assert path.name == "someone--a-model.dddddddddddd.pod20.json"
    assert sharing_plan.find(PLAN.model, PLAN.digest, 0.2, tmp_path, tmp_path / "made") == PLAN
    assert sharing_plan.find(PLAN.model, "e" * 64, 0.2, path.parent) is None
    assert sharing_plan.find(PLAN.model, PLAN.digest, 0.35, path.parent) is None
    assert json.loads(path.read_text())["roots"][2] == [2, 1]


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    path = PLAN.save(tmp_path, 0.2)
    for text in ("", "{}", "[]", path.read_text()[:-40], path.read_text().replace("roots", "trees")):
        path.write_text(text)
        with pytest.raises(PlanMissing, match=r"pod20\.json holds no plan: .*make it anew"):
            sharing_plan.find(PLAN.model, PLAN.digest, 0.2, tmp_path)


def test_layers_that_share_must_be_neighbours() -> None:
    for roots in (((0, 0), (0, 0), (1, 0)), ((1, 0), (1, 1)), ((0, 0), (1, 1), (0, 1))):
        with pytest.raises(ValueError, match="neither a root"):
            replace(PLAN, roots=roots)


@pytest.mark.parametrize("saving", (0.1, 0.2, 0.35))
def test_the_embedded_model_has_plans(saving: float) -> None:
    plan = sharing_plan.find(embedded.NAME, embedded.SHA256, saving)
    assert plan is not None and plan.saving == pytest.approx(saving, abs=0.005)
    assert (len(plan.roots), len(plan.roots[0])) == (30, 3)
    assert plan.facts["criterion"] == "block" and plan.facts["asked_saving"] == saving


def test_the_command_makes_a_plan_and_a_picture(tiny_model_dir: Path, tmp_path: Path, one_thread: None) -> None:
    text = tmp_path / "texts"
    text.mkdir()
    (text / "a.md").write_text("The lamp was lit, and nobody had seen the porter that day. " * 40)
    said: list[str] = []
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--out", str(tmp_path / "plans")]
    arguments += ["--text", str(text), "--samples", "2", "--tokens", "200", "--queries", "8", "--recent", "32"]
    plan_search.main([*arguments, "--saving", "0.25", "--plot", str(tmp_path / "a.svg")], said.append)
    (path,) = (tmp_path / "plans").iterdir()
    facts = json.loads(path.read_text())
    assert facts["facts"]["samples"] == 2 and facts["facts"]["asked_saving"] == 0.25
    assert any("leaves out" in line for line in said)
    picture = (tmp_path / "a.svg").read_text()
    assert picture.startswith("<svg") and picture.count("KV head") == len(facts["roots"][0])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (
        (["--text", "nowhere"], "does not exist"),
        (["--tokens", "99999"], "tokens at most"),
        (["--samples", "9999"], "give more text"),
        (["--queries", "0"], "must be 1 or more"),
    ),
)
def test_what_the_command_refuses(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    shared = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--out", str(tmp_path / "plans")]
    with pytest.raises(SystemExit, match="2"):
        plan_search.main([*shared, *arguments], lambda _: None)
    assert reason in capsys.readouterr().err
