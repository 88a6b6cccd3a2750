"""The model behind the library: loaded once in the background, and the same reader wherever its folder lies."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import ModelUnavailable
from app.reader_model import ReaderModel
from app.settings import Settings
from engine.core.errors import ModelMissing
from engine.models import loader
from tests.app import paper


@pytest.fixture
def reader_model(settings: Settings) -> Iterator[ReaderModel]:
    reader_model = ReaderModel(settings, settings.home / "models")
    yield reader_model
    reader_model.close()


def test_the_model_is_loaded_once_and_says_why_it_was_chosen(reader_model: ReaderModel, settings: Settings) -> None:
    assert reader_model.status().state == "loading"
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(reader_model.ready())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1
    status = reader_model.status()
    assert (status.state, status.name) == ("ready", Path(settings.model).name)
    assert "as asked for" in status.why and "attention" in status.why
    assert re.search(r"pods stay in up to \d+\.\d GB of memory", status.why)


def test_a_reader_is_known_by_what_shapes_a_pod_and_not_by_its_place(settings: Settings, tmp_path: Path) -> None:
    def reader(**changes: object) -> str:
        changed = replace(settings, **changes)
        with closing(ReaderModel(changed, settings.home / "models")) as reader_model:
            return reader_model.ready().recipes[changed.recipe or "exact"].reader

    moved = tmp_path / "elsewhere" / Path(settings.model).name
    shutil.copytree(settings.model, moved)
    assert reader() == reader(model=str(moved)) == reader(chunk_tokens=7, memory_mb=1, home=tmp_path)
    assert reader(recipe="keep60+k8v4h") != reader()
    template = moved / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert reader(model=str(moved)) != reader()


def test_the_window_is_shared_between_section_conversation_and_answer(reader_model: ReaderModel) -> None:
    loaded = reader_model.ready()
    window = loaded.runner.model.window
    assert loaded.section_tokens + loaded.question_tokens < window
    assert loaded.pace.tokens_per_second > 0


def test_without_a_model_everybody_who_waits_hears_why(settings: Settings, tmp_path: Path) -> None:
    reader_model = ReaderModel(replace(settings, model=str(tmp_path)), tmp_path)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=r"holds no config\.json"):
            reader_model.ready()
    status = reader_model.status()
    assert status.state == "failed" and "--model" in status.better


def test_a_bug_in_loading_keeps_nobody_waiting(reader_model: ReaderModel, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda report: reported.append(report.exc_type))

    def load(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loader, "load", load)
    with pytest.raises(ModelUnavailable, match="not loaded"):
        reader_model.ready()
    assert reader_model.status().state == "failed"
    paper.wait_until(lambda: reported == [ZeroDivisionError])


def test_nobody_waits_for_a_model_that_is_given_up(reader_model: ReaderModel, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def load(*_: object) -> None:
        goes_on.wait()
        raise ModelMissing("too late")

    monkeypatch.setattr(loader, "load", load)
    reader_model.start()
    reader_model.close()
    with pytest.raises(ModelUnavailable):
        reader_model.ready()
    goes_on.set()


def test_a_file_that_cannot_be_read_is_told_in_a_sentence(
    reader_model: ReaderModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where too many are open, or the disk fails under a small one."""

    def failing(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/home/cpu-dtype.txt")

    monkeypatch.setattr(loader, "load", failing)
    with pytest.raises(ModelUnavailable, match="could not be read: Too many open files"):
        reader_model.ready()
    assert reader_model.status().state == "failed" and "Check the disk" in reader_model.status().better
