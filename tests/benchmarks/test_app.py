"""The bench of the whole app: what its JSON line holds, with a tiny model on this machine."""

import json
from pathlib import Path

import pytest

from benchmarks.app import __main__ as command
from benchmarks.app.folder import model_folder
from benchmarks.app.session import NotFound, _questions
from benchmarks.speed.shapes import SHAPES
from tests.app import paper


@pytest.mark.slow
def test_every_recipe_is_read_and_asked_from_every_place(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.app.session._BENCH_TOKENS", 4)
    said: list[str] = []
    arguments = ["--model", str(tiny_model_dir), "--file", str(paper.text(tmp_path / "a.txt", 4))]
    home, out = tmp_path / "home", tmp_path / "app.json"
    paper.prepare_models(tiny_model_dir, home / "models")
    arguments += ["--work", str(tmp_path)]
    command.main([*arguments, "--home", str(home), "--recipes", "exact,k4v4hs", "--out", str(out)], said.append)
    result = json.loads(said[-1])
    assert json.loads(out.read_text()) == result
    assert result["bench"] == "app"
    assert [row["recipe"] for row in result["rows"]] == ["exact", "k4v4hs"]
    for row in result["rows"]:
        assert row["shape"] == tiny_model_dir.name and row["tokens"] > 500
        assert min(row["read_tok_s"], row["decode_tok_s"], row["ready_s"], row["ready_first_s"], row["peak_gb"]) > 0
        assert all(row["first_word_ms"][place] > row["passages_ms"][place] > 0 for place in ("ram", "disk"))
        assert row["bench"]["read_tok_s"] > 0 and row["bench"]["decode_tok_s"] > 0
    assert "first_read_tok_s" in result["rows"][0]


def test_a_shape_becomes_a_folder_once(tmp_path: Path, tiny_model_dir: Path, tiny_tokenizer: object) -> None:
    small = SHAPES["qwen3-4b"].small()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tiny_model_dir / name).exists()
    folder = model_folder(small, tmp_path / "small", tiny_model_dir)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
    assert (folder / "chat_template.jinja").read_text() == (tiny_model_dir / "chat_template.jinja").read_text()
    assert model_folder(small, tmp_path / "small", tiny_model_dir) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_a_document_without_words_cannot_be_asked() -> None:
    with pytest.raises(NotFound):
        _questions(["", "too few words"])
