"""Every method at equal bytes: budgets are met, figures are kept, and what is not prepared is said."""

import json
from pathlib import Path

import pytest

from benchmarks.fidelity import methods
from engine.models import loader


@pytest.mark.slow
def test_methods_meet_their_budgets_and_are_not_measured_twice(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.fidelity.planting.LIST_ROWS", 8)
    monkeypatch.delenv("DOCPOD_EVAL_DATA", raising=False)
    said: list[str] = []
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--lengths", "1100", "--limit", "1"]
    arguments += ["--only", "streaming,subgen,less", "--out", str(tmp_path / "out")]
    arguments += ["--json", str(tmp_path / "methods.json")]
    methods.main(arguments, said.append)
    found = json.loads((tmp_path / "methods.json").read_text())
    rows = {(row["method"], row["recipe"]): row for row in found["rows"]}
    exact = rows.pop(("exact", "exact"))
    token_bytes = loader.load(str(tiny_model_dir), tmp_path, lambda _: None).shape.token_bytes
    assert exact["bytes_per_token"] == token_bytes and exact["kl"] == 0
    measured = [row for row in rows.values() if row["kind"] in ("kept", "merged")]
    assert [row["method"] for row in measured] == ["StreamingLLM"] * 4 + ["SubGen"] * 4
    for row, ratio in zip(measured, 2 * methods.RATIOS, strict=True):
        assert 0.97 * token_bytes / ratio < row["bytes_per_token"] <= token_bytes / ratio
        assert row["kl"] > 0 and row["tok_s"] > 0 and row["build_s"] >= 0 and row["copies"] is not None
    vision = [row for row in rows.values() if row["kind"] == "vision"]
    assert len(vision) == 5 and all(row["kl"] is None for row in vision)
    assert [Path(row["tests"]).exists() for row in vision if row["tests"]] == [True, True]
    assert any(each.startswith("LESS is left out: ") and "less_fit" in each for each in said)
    monkeypatch.setattr("benchmarks.fidelity.work.measure", lambda *_: pytest.fail("measured again"))
    first = (tmp_path / "methods.json").read_text()
    methods.main(arguments, said.append)
    assert "2 of 2 documents were measured before" in said
    assert (tmp_path / "methods.json").read_text() == first
