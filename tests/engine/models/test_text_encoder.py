"""The text encoder is fetched once, checked, and missed in a sentence."""

from pathlib import Path

import pytest

from engine.core.errors import ModelMissing
from engine.models import text_encoder
from engine.models.text_encoder import ensure


def put(content: bytes, folder: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (folder / name).write_bytes(content)


def unreachable(folder: Path) -> None:
    raise OSError("no way there")


def test_what_comes_otherwise_than_expected_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"no way there; .*model.safetensors.* came otherwise"):
        ensure(tmp_path, True, [unreachable, lambda folder: put(b"other", folder)])
    assert ensure(tmp_path, False) is None


def test_the_first_source_that_has_it_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "sha256", lambda path: path.read_text())
    names = ("model.safetensors", "tokenizer.json", "config.json")
    monkeypatch.setattr(text_encoder, "_SHA256", dict.fromkeys(names, "right bytes"))
    sources = [unreachable, lambda folder: put(b"right bytes", folder)]
    folder = ensure(tmp_path, True, sources)
    assert folder is not None and {path.name for path in folder.iterdir()} == set(names)
    assert ensure(tmp_path, True, []) == ensure(tmp_path, False) == folder
    # It is looked at every time, and no damaged one finds passages.
    for spoil in (lambda path: path.write_text("right bites"), Path.unlink):
        spoil(folder / "tokenizer.json")
        with pytest.raises(ModelMissing, match="no way there"):
            ensure(tmp_path, False, [unreachable])
        assert ensure(tmp_path, False, sources) == folder
        assert (folder / "tokenizer.json").read_text() == "right bytes"
