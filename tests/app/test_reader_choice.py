"""Changing the reader while DocPod runs: listed, fetched, refused, taken over, remembered; memories stay apart."""

import gc
import json
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.errors import BadSetting, Busy, DiskFull
from app.events import ReaderEntry
from app.main import App
from app.settings import Settings
from engine.compression import basis_fit
from engine.models import loader
from storage import Home, Store
from tests import tiny
from tests.app import paper
from tests.app.conftest import OpenApp, Turns
from tests.engine.models.test_gguf_file import written
from tests.hub import Hub, hub_at

pytestmark = pytest.mark.usefixtures("in_this_process")

NAME = "someone/some-model"
GB = 1_000_000_000


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Path:
    """A reader of another family."""
    folder = tmp_path_factory.mktemp("other") / "tiny-qwen"
    tiny.qwen3().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def served(other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_at(monkeypatch, tmp_path / "cache") as served:
        served.publish(NAME, other)
        yield served


def used(app: App, choice: str) -> App:
    """The app after a change to another reader."""
    app.readers.use(choice)
    assert app.readers.settled(120)
    assert app.readers.trouble is None, app.readers.trouble
    return app


def refused(app: App, choice: str) -> str:
    app.readers.use(choice)
    assert app.readers.settled(120)
    assert app.readers.trouble is not None and app.readers.doing == ""
    return f"{app.readers.trouble.message} {app.readers.trouble.hint}"


def entry(app: App, name: str) -> ReaderEntry:
    return next(each for each in app.readers.entries() if each.name == name)


def started_with(app: App, source: Path) -> str:
    """The id of a document that the app has read in its background, which goes on."""
    app.start()
    document_id = app.library.add(source, "a.txt", move=False)
    paper.wait_for(app, document_id, "ready")
    return document_id


def test_what_this_machine_can_run(open_app: OpenApp, settings: Settings, other: Path, served: Hub) -> None:
    app = open_app()
    app.model.wait()
    shutil.copytree(other, settings.home / "models" / "my-model")
    before = app.readers.entries()
    names = [each.name for each in before]
    mine = Path(settings.model).name
    assert names == [*(each.name for each in loader.READERS), "my-model", mine]
    assert [each.name for each in before if each.in_use] == [mine]
    large, small = before[0], before[2]
    assert large.download_bytes > small.download_bytes > GB and large.needed_bytes > large.download_bytes
    assert large.licence and large.billions and not large.measured
    assert 0 < large.tokens_per_second < small.tokens_per_second
    assert entry(app, mine).measured and entry(app, mine).download_bytes == 0
    used(app, NAME)
    assert NAME in [each.name for each in app.readers.entries()], "what was fetched is listed ever after"


def test_another_reader_takes_over_and_is_remembered(
    open_app: OpenApp, store: Store, source: Path, served: Hub, settings: Settings
) -> None:
    app = open_app()
    document_id = started_with(app, source)
    used(app, NAME)
    assert app.status().name == NAME and app.model.wait().loaded.runner.model.name == NAME
    # Reading it again is the user's decision; what the one before has read is kept.
    paper.wait_for(app, document_id, "waiting")
    app.library.read(document_id)
    paper.wait_for(app, document_id, "ready")
    assert {each.model_name for each in store.readings(document_id)} == {NAME, Path(settings.model).name}
    app.close()
    again = open_app(model="")
    assert again.model.wait().loaded.runner.model.name == NAME
    assert [path for path, _, _ in served.requests].count(served.weights(NAME)) == 1, "fetched once"
    again.start()
    used(again, settings.model)
    paper.wait_for(again, document_id, "ready")
    assert again.questions.route(document_id, "What is the access code of room 3?") is not None


def test_a_reader_that_was_given_goes_before_the_remembered_one(open_app: OpenApp, other: Path, settings) -> None:
    used(open_app(), str(other)).close()
    assert open_app().status().name == settings.model
    assert open_app(model="").status().name == str(other)


def test_a_gguf_file_is_taken_and_can_go_then(open_app: OpenApp, source: Path, tmp_path: Path) -> None:
    app = open_app()
    path = written(tmp_path / "Small.gguf", tiny.llama(), "Q8_0")
    started_with(used(app, str(path)), source)
    name = app.status().name
    assert name.startswith("Small-") and entry(app, name).in_use and entry(app, name).measured
    app.close()
    path.unlink()
    assert open_app(model="").model.wait().loaded.runner.model.name == name


def test_questions_go_on_with_the_one_before(
    open_app: OpenApp, source: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    document_id = started_with(app, source)
    before, goes_on, load = app.status().name, threading.Event(), loader.load

    def slow(*arguments: object) -> object:
        assert goes_on.wait(120)
        return load(*arguments)

    monkeypatch.setattr(loader, "load", slow)
    app.readers.use(str(other))
    paper.wait_until(lambda: "answers until it is ready" in app.status().doing)
    with pytest.raises(Busy):
        app.readers.use("embedded")
    answer = list(app.questions.ask(document_id, "What is the access code of room 3?"))[-1]
    assert answer.model == before
    goes_on.set()
    assert app.readers.settled(120) and app.status().name == other.name


def test_a_reading_ends_after_its_chunk_and_the_next_reader_is_asked_about(
    open_app: OpenApp, source: Path, other: Path, turns: Turns, store: Store
) -> None:
    app = open_app()
    app.start()
    document_id = app.library.add(source, "a.txt", move=False)
    paper.wait_until(lambda: turns.begun == 1)
    app.readers.use(str(other))
    paper.wait_until(lambda: app.model.status().name == other.name)
    turns.give()
    assert app.readers.settled(120)
    paper.wait_for(app, document_id, "waiting")
    first, second = store.readings(document_id)
    assert first.num_bytes and not second.num_bytes


def test_where_memory_holds_only_one(
    open_app: OpenApp, source: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before goes first, with all that it held, and whoever asks meanwhile waits."""
    app = open_app()
    started_with(app, source)
    network = weakref.ref(app.model.wait().loaded.runner.model.network)
    monkeypatch.setattr(app.readers, "_free", lambda: 0)
    monkeypatch.setattr(app.readers, "_held", lambda: 100 * GB)
    left: list[bool] = []
    load = loader.load

    def note(*arguments: object) -> object:
        gc.collect()
        left.append(network() is not None)
        return load(*arguments)

    monkeypatch.setattr(loader, "load", note)
    used(app, str(other))
    assert left == [False] and app.status().name == other.name


def test_whoever_is_at_work_and_waits_for_the_next_reader_holds_up_nobody(
    open_app: OpenApp, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that begins at the very moment of the change counts with the one before, and the next answers it."""
    app = open_app()
    idle = app.model.wait().loaded.idle
    monkeypatch.setattr("app.reader_model._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(app.readers, "_free", lambda: 0)
    monkeypatch.setattr(app.readers, "_held", lambda: 100 * GB)
    with idle.question():
        app.readers.use(str(other))
        paper.wait_until(lambda: app.model.choice == str(other))
        assert app.model.wait().loaded.runner.model.name == other.name


def test_the_one_before_comes_back_where_the_other_cannot_be_loaded(
    open_app: OpenApp, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    app = open_app()
    app.start()
    app.model.wait()
    broken = shutil.copytree(other, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "could not be loaded" in refused(app, str(broken))
    assert app.model.wait().loaded.runner.model.name == Path(settings.model).name
    monkeypatch.setattr(app.readers, "_free", lambda: 0)
    monkeypatch.setattr(app.readers, "_held", lambda: 100 * GB)
    assert "could not be loaded" in refused(app, str(broken))
    assert app.model.wait().loaded.runner.model.name == Path(settings.model).name
    assert app.status().state == "ready"


def test_what_does_not_fit_is_refused_before_it_is_fetched(
    open_app: OpenApp, served: Hub, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    app.model.wait()
    monkeypatch.setattr(app.readers, "_free", lambda: GB // 10)
    said = refused(app, NAME)
    assert f"{NAME} needs about" in said and "are to be had" in said and "smaller reader" in said
    assert not any(path == served.weights(NAME) for path, _, _ in served.requests)
    assert "needs about" in refused(app, str(other))
    assert not entry(app, loader.GPU_DEFAULT).fits and entry(app, loader.EMBEDDED.name).fits


def test_a_download_is_stopped_and_gone_on_with(open_app: OpenApp, served: Hub) -> None:
    app = open_app()
    app.model.wait()
    before = app.status().name
    served.pause_seconds = 0.01
    app.readers.use(NAME)
    paper.wait_until(lambda: any(path == served.weights(NAME) for path, _, _ in served.requests))
    assert app.readers.doing.startswith(f"Fetching {NAME}") and app.readers.can_stop
    app.readers.stop()
    assert app.readers.settled(120)
    assert (app.readers.doing, app.readers.trouble, app.status().name) == ("", None, before)
    served.pause_seconds = 0.0
    used(app, NAME)
    assert any(start for path, start, _ in served.requests if path == served.weights(NAME)), "from where it stopped"


def test_what_the_hub_refuses_is_said(open_app: OpenApp, served: Hub, other: Path) -> None:
    app = open_app()
    app.model.wait()
    before = app.status().name
    served.publish("someone/gated", other, gated=True)
    assert "Accept its terms" in refused(app, "someone/gated")
    assert "neither a folder" in refused(app, "no such thing")
    with pytest.raises(BadSetting):
        app.readers.use("  ")
    assert app.status().name == before


def test_what_a_reader_has_read_is_deleted_by_a_word(
    open_app: OpenApp, source: Path, other: Path, store: Store, settings: Settings
) -> None:
    app = open_app()
    document_id = started_with(app, source)
    mine = Path(settings.model).name
    with pytest.raises(Busy, match="in use"):
        app.readers.forget(mine)
    assert entry(app, mine).documents == 1 and entry(app, mine).used_at is not None
    used(app, str(other))
    paper.wait_for(app, document_id, "waiting")
    size = entry(app, mine).pod_bytes
    assert size > 0 and app.readers.forget(mine) == size
    assert entry(app, mine).pod_bytes == 0 and entry(app, mine).choice == settings.model, "the way back"
    assert [each.model_name for each in store.readings()] == [other.name]
    paper.wait_until(lambda: not list((settings.home / "pods").iterdir()))


def test_pods_of_a_reader_that_is_gone_are_listed(open_app: OpenApp, other: Path, source: Path, tmp_path: Path) -> None:
    gone = shutil.copytree(other, tmp_path / "gone")
    app = open_app(model=str(gone))
    list(app.library.wait(app.library.add(source, "a.txt", move=False)))
    app.close()
    shutil.rmtree(gone)
    left = entry(open_app(), "gone")
    assert left.choice == "" and left.documents == 1 and left.pod_bytes > 0


def test_the_commands(served: Hub, settings: Settings, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> object:
        assert cli.main([*arguments, "--json", "--home", str(settings.home)], lambda app: None) == 0
        return json.loads(capsys.readouterr().out)

    assert run("readers", "use", NAME, "--model", settings.model) == {"reader": NAME}
    listed = run("readers")
    assert [each["name"] for each in listed if each["in_use"]] == [NAME]
    run("read", str(source))
    assert run("readers", "forget", NAME, "--model", settings.model)["bytes"] > 0
    assert cli.main(["readers", "use", "no such thing", "--home", str(settings.home)], lambda app: None) == 2
    assert "neither a folder" in capsys.readouterr().err


def test_a_reader_is_prepared_for_the_archive_and_can_be_stopped(
    open_app: OpenApp, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basis_fit, "SAMPLES", 3)
    app, seen = open_app(), []
    document_id = started_with(app, source)
    name = app.model.status().name
    assert entry(app, name).can_prepare
    whole = basis_fit.observe

    def stopped(*arguments: Any) -> Any:
        app.readers.stop()
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(basis_fit, "observe", stopped)
        app.readers.prepare()
        with pytest.raises(Busy):
            app.readers.use("embedded")
        assert app.readers.settled(120) and app.readers.trouble is None
    assert entry(app, name).can_prepare and app.readers.doing == ""
    app.readers.prepare()
    while not app.readers.settled(0.05):
        seen.append(app.readers.doing)
    assert app.readers.trouble is None and "coded" in " ".join(seen)
    assert not entry(app, name).can_prepare
    app.library.choose(document_id, "archive")
    paper.wait_for(app, document_id, "ready")
    answer = paper.last(app.questions.ask(document_id, "What is the access code of room 3?"))
    assert (answer.recipe, answer.citations[0].page) == ("archive", 3)


def test_a_reader_is_prepared_unasked_once_something_is_read(
    open_app: OpenApp, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basis_fit, "SAMPLES", 3)
    app, seen, observe = open_app(prepare=True), threading.Semaphore(0), basis_fit.observe

    def noted(*arguments: Any) -> Any:
        seen.release()
        return observe(*arguments)

    monkeypatch.setattr(basis_fit, "observe", noted)
    app.start()
    app.model.wait()
    app.library.at_rest()
    assert app.readers.doing == ""
    # The background looks, too, once it has read.
    app.settings.prepare = False
    paper.wait_for(app, app.library.add(source, source.name, move=False), "ready")
    app.library.at_rest()
    assert app.readers.doing == ""
    app.settings.prepare = True
    with app.model.wait().loaded.idle.question():
        app.library.at_rest()
        assert "coded" in app.readers.doing and not seen.acquire(timeout=3)
    assert app.readers.settled(120) and seen.acquire(timeout=1)
    assert not entry(app, app.model.status().name).can_prepare


def test_what_nobody_asked_for_makes_way(
    open_app: OpenApp, source: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app(prepare=True)
    document_id = paper.read_here(app, source)
    idle = app.model.wait().loaded.idle
    with idle.work():
        # However long others are at work.
        app.readers.prepare_unasked()
        app.readers.stop()
        assert app.readers.settled(60) and app.readers.trouble is None
        app.readers.prepare_unasked()
        assert app.readers.doing == ""
        app.readers.prepare()
        with pytest.raises(Busy, match="being prepared"):
            app.readers.use(str(other))
        app.readers.stop()
        assert app.readers.settled(60)
        with monkeypatch.context() as patch:
            patch.setattr(Home, "free_bytes", lambda _: 1_000_000)
            app.readers.prepare()
            assert app.readers.settled(60) and isinstance(app.readers.trouble, DiskFull)
    # What was observed of texts may be of any document.
    folder = app.settings.home / "models" / f"some{basis_fit.SAMPLES_SUFFIX}"
    folder.mkdir()
    app.library.delete(document_id)
    assert not folder.exists()
    again = open_app(prepare=True)
    paper.read_here(again, source)
    with again.model.wait().loaded.idle.work():
        again.readers.prepare_unasked()
        assert "coded" in again.readers.doing
        again.readers.use("no such reader")
        assert again.readers.settled(120) and "neither a folder" in str(again.readers.trouble)
