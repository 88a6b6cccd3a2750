"""The app as a whole: opened, opened twice, and closed."""

import os
from pathlib import Path

import pytest

from app.errors import BadSetting, Busy, DiskFailed
from app.main import App
from app.settings import Settings
from storage import Home, HomeBusy
from tests.app import paper
from tests.app.conftest import OpenApp


def test_closing_twice_is_closing_once(settings: Settings) -> None:
    app = App(settings)
    app.start()
    app.close()
    app.close()


def test_opening_sweeps_what_an_interrupted_run_left(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt", 2))
    app.close()
    written = paper.blocks(settings.home)
    for name in ("pods/.a.pod.x.partial", "documents/." + document_id + ".0.unlocked"):
        (settings.home / name).write_bytes(b"left")
    again = open_app()
    assert paper.blocks(settings.home) == written
    assert [path.name for path in (settings.home / "documents").iterdir()] == [document_id]
    assert again.verify() == (len(written), [])


def test_two_apps_on_one_home_see_the_same_library(open_app: OpenApp, tmp_path: Path) -> None:
    one, other = open_app(), open_app()
    document_id = paper.read_here(one, paper.text(tmp_path / "a.txt", 2))
    assert other.library.catalogue.entry(document_id).progress.stage == "ready"
    answer = paper.last(other.questions.ask(document_id, "What is the access code of room 2?"))
    assert one.questions.turns(answer.conversation_id)[0].answer == answer


def test_the_home_is_private(open_app: OpenApp, settings: Settings) -> None:
    settings = Settings(home=settings.home / "deeper" / "home", model=settings.model, meaning=False, prepare=False)
    app = App(settings)
    app.close()
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert (settings.home / "docpod.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_home_that_cannot_be_used_is_named(settings: Settings, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for home in (blocked, blocked / "below"):
        with pytest.raises(BadSetting, match=str(home)):
            App(Settings(home=home, model=settings.model, meaning=False, prepare=False))


def test_a_home_that_is_being_tidied_up_is_busy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise HomeBusy("tidying")

    monkeypatch.setattr(Home, "alone", busy)
    with pytest.raises(Busy):
        App(settings)


def test_opening_and_closing_leaves_no_open_file(settings: Settings) -> None:
    App(settings).close()
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    for _ in range(3):
        App(settings).close()
    after = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    assert len(after) <= len(before)


def test_a_home_that_is_moved_away_is_told(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)
    settings.home.rename(tmp_path / "elsewhere")
    for verb in (
        lambda: app.library.delete(document_id),
        lambda: app.library.add(paper.text(tmp_path / "b.txt", 3), "b.txt", move=False),
    ):
        with pytest.raises(DiskFailed, match="No such file"):
            verb()
    (tmp_path / "elsewhere").rename(settings.home)
    app.library.delete(document_id)
