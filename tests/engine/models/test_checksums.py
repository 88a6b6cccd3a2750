"""Files of models that are no longer what was written, or what was read first."""

import os
import shutil
from pathlib import Path

import pytest

from engine.models import checksums, embedded, loader
from tests.engine.models.test_loader import folder, load

__all__ = ["folder"]


def test_damaged_weights_of_the_embedded_model_are_fetched_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[bool] = []

    def fetch(work: Path, *_: object) -> None:
        fetched.append(True)
        (work / embedded.GGUF).write_bytes(b"")

    monkeypatch.setattr(embedded, "_fetch", fetch)
    monkeypatch.setattr(embedded, "_convert", lambda _, converted: shutil.copytree(folder, converted))
    models, said = tmp_path / "models", list[str]()

    def load_it() -> None:
        loader.load("embedded", models, said.append)

    load_it()
    load_it()
    assert fetched == [True]
    (weights,) = models.glob("*/model.safetensors")
    good = weights.read_bytes()
    for damage in (flipped(good, len(good) - 9), flipped(good, 30), good[:-1]):
        stat = weights.stat()
        weights.write_bytes(damage)
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        fetched.clear()
        load_it()
        assert fetched == [True]
        assert weights.read_bytes() == good
    assert any("model.safetensors): it is fetched anew" in sentence for sentence in said)


def test_a_file_that_changed_without_a_trace_is_found_by_looking_at_every_byte(folder: Path, tmp_path: Path) -> None:
    digest = load(folder, tmp_path).digest
    assert checksums.scrub(tmp_path) == []
    weights = folder / "model.safetensors"
    stat, good = weights.stat(), weights.read_bytes()
    weights.write_bytes(flipped(good, len(good) - 9))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load(folder, tmp_path).digest == digest
    assert checksums.scrub(tmp_path) == [weights]
    assert load(folder, tmp_path).digest != digest
    assert checksums.scrub(tmp_path) == []


def flipped(content: bytes, at: int) -> bytes:
    """The bytes with one bit changed."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
