"""Models from the hub, by the real client from a stand-in on this machine: whole, broken off, stopped, damaged."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.core.errors import ModelDamaged, ModelMissing, ModelUnsupported
from engine.models import hub, loader
from tests.hub import COMMIT, Hub, hub_at

NAME = "someone/some-model"


@pytest.fixture
def served(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_at(monkeypatch, tmp_path / "cache") as served:
        served.publish(NAME, tiny_model_dir)
        yield served


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def nothing(have: int, total: int) -> None:
    pass


def test_a_model_comes_once_and_is_loaded_as_from_its_folder(served: Hub, models: Path, tiny_model_dir: Path) -> None:
    said: list[str] = []
    model = loader.load(NAME, models, said.append)
    assert model.name == NAME and model.digest == loader.load(str(tiny_model_dir), models, said.append).digest
    assert said[0].startswith(f"Fetching {NAME}, once: 0 of ")
    asked = len(served.requests)
    assert loader.load(NAME, models, said.append).name == NAME
    assert len(served.requests) == asked, "the second time nobody is asked"


def test_what_is_told_of_a_download_adds_up(served: Hub, models: Path) -> None:
    steps: list[tuple[int, int]] = []
    total = hub.num_bytes(hub.listing(NAME))
    hub.fetch(NAME, models, lambda *step: steps.append(step))
    assert {step[1] for step in steps} == {total}
    assert [have for have, _ in steps] == sorted(have for have, _ in steps) and steps[-1][0] == total
    assert 0 < hub.num_bytes(hub.listing(NAME), hub.WEIGHTS) < total


def test_a_broken_connection_is_gone_on_with(served: Hub, models: Path, tiny_model_dir: Path) -> None:
    size = (tiny_model_dir / "model.safetensors").stat().st_size
    served.broken_after = size * 2 // 3
    folder = hub.fetch(NAME, models, nothing)
    ranges = [asked for path, asked, _ in served.requests if path == served.weights(NAME)]
    assert ranges[0] is None and ranges[1] is not None and len(ranges) == 2
    assert (folder / "model.safetensors").read_bytes() == (tiny_model_dir / "model.safetensors").read_bytes()


def test_a_stopped_download_goes_on_where_it_was(served: Hub, models: Path, tiny_model_dir: Path) -> None:
    """Also where the server is slow: what came is kept, and no more is asked for."""
    total = hub.num_bytes(hub.listing(NAME))

    class Stopped(Exception):
        pass

    def stop(have: int, total: int) -> None:
        if have > total // 2:
            raise Stopped

    served.pause_seconds = 0.001
    with pytest.raises(Stopped):
        hub.fetch(NAME, models, stop)
    assert hub.found(NAME, models) is None
    served.pause_seconds = 0.0
    served.requests.clear()
    folder = hub.fetch(NAME, models, nothing)
    again = sum(len(served.files[path]) - int(start[6:-1]) for path, start, _ in served.requests if start)
    assert 0 < again < total * 2 // 3
    assert (folder / "model.safetensors").read_bytes() == (tiny_model_dir / "model.safetensors").read_bytes()
    assert hub.found(NAME, models) == folder and [each for each in folder.parent.iterdir() if each.is_dir()] == [folder]


def test_a_new_version_is_not_mixed_with_an_old_one(served: Hub, models: Path) -> None:
    work = models / hub.FOLDER / ".someone--some-model.ffffffffffff"
    work.mkdir(parents=True)
    (work / "model.safetensors.part").write_bytes(b"of another version")
    folder = hub.fetch(NAME, models, nothing)
    assert not work.exists() and hub.is_whole(folder)


def test_what_came_damaged_is_not_used(served: Hub, models: Path) -> None:
    right = served.files[served.weights(NAME)]
    served.files[served.weights(NAME)] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(ModelDamaged, match="came damaged"):
        hub.fetch(NAME, models, nothing)
    assert hub.found(NAME, models) is None
    served.files[served.weights(NAME)] = right
    assert hub.is_whole(hub.fetch(NAME, models, nothing))


def test_the_terms_of_a_gated_model_have_to_be_accepted(served: Hub, models: Path, tiny_model_dir: Path) -> None:
    served.publish("someone/gated", tiny_model_dir, gated=True)
    assert hub.num_bytes(hub.listing("someone/gated")), "the hub tells everybody what there is"
    with pytest.raises(ModelMissing, match="could not be fetched") as raised:
        hub.fetch("someone/gated", models, nothing)
    assert "Accept its terms" in raised.value.hint


@pytest.mark.parametrize(
    ("hub_id", "hint"), [("someone/nothing", "spelled"), ("not an/id!", "spelled"), ("name/..", "spelled")]
)
def test_what_the_hub_does_not_have(served: Hub, models: Path, hub_id: str, hint: str) -> None:
    served.refusals["/api/models/someone/nothing"] = 404, {"X-Error-Code": "RepoNotFound"}
    with pytest.raises(ModelMissing, match="could not be fetched from the model hub") as raised:
        loader.load(hub_id, models, print)
    assert hub_id in str(raised.value) and hint in raised.value.hint


def test_a_hub_that_does_not_answer(served: Hub, models: Path) -> None:
    served.close()
    with pytest.raises(ModelMissing, match=f"^{NAME} could not be fetched from the model hub: .") as raised:
        loader.load(NAME, models, print)
    assert "network" in raised.value.hint


def test_a_model_without_safetensors(served: Hub, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "some.gguf").write_bytes(b"GGUF")
    served.publish("someone/gguf", folder)
    with pytest.raises(ModelUnsupported, match="safetensors on the hub"):
        hub.fetch("someone/gguf", models, nothing)


def test_a_full_disk_is_said_before_anything_comes(served: Hub, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(models.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ModelMissing, match="does not fit on the disk"):
        hub.fetch(NAME, models, nothing)
    assert not any(path == served.weights(NAME) for path, _, _ in served.requests)


def test_what_another_program_fetched_is_used_where_it_lies(
    served: Hub, models: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    cached = tmp_path / "cache" / "models--someone--some-model"
    shutil.copytree(tiny_model_dir, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    assert hub.fetch(NAME, models, nothing) == cached / "snapshots" / COMMIT
    index = cached / "snapshots" / COMMIT / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert hub.found(NAME, models) is None, "a part of it is missing"


def test_what_a_reader_needs(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_cpu_dtype", lambda memo: torch.bfloat16)
    half = loader.needed_bytes(8_050_000_000, models)
    monkeypatch.setattr(loader, "_cpu_dtype", lambda memo: torch.float32)
    assert 8_050_000_000 < half < loader.needed_bytes(8_050_000_000, models)
    monkeypatch.setattr(loader, "select_device", lambda: torch.device("cuda"))
    assert loader.needed_bytes(8_050_000_000, models) <= loader.GPU_DEFAULT_BYTES, "what auto takes fits where it does"
