"""A library whose database is lost, whichever way, is whole again at the next start."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import DiskFailed
from app.main import App
from app.settings import Settings
from storage import Keeper
from tests.app import paper
from tests.app.conftest import OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 2?"


def cut(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)


LOSSES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda database: database.write_bytes(b""),
    "removed": Path.unlink,
    "cut in half": cut,
    "other bytes": lambda database: database.write_bytes(b"no database at all\n" * 500),
    "an empty database": lambda database: (database.unlink(), sqlite3.connect(database).execute("VACUUM")),
}


def originals(settings: Settings) -> set[str]:
    return {path.name for path in (settings.home / "documents").iterdir()}


def titles(app: App) -> set[str]:
    return {entry.name for entry in app.library.catalogue.entries()}


@pytest.mark.parametrize("how", LOSSES)
def test_a_lost_database_gives_way_to_its_backup(
    how: str, open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt", 2))
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()
    blocks = paper.blocks(settings.home)

    LOSSES[how](settings.home / "docpod.sqlite3")
    again = open_app()

    assert "backup" in again.notice
    assert again.status().notice == again.notice
    assert again.library.catalogue.entry(document_id).progress.stage == "ready"
    assert [turn.answer for turn in again.questions.turns(answer.conversation_id)] == [answer]
    assert paper.blocks(settings.home) == blocks
    assert again.verify() == (len(blocks), [])
    again.close()
    assert open_app().notice == ""


@pytest.mark.parametrize("how", LOSSES)
def test_without_a_backup_documents_are_entered_anew(
    how: str, open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    ids = {paper.read_here(app, paper.text(tmp_path / name, pages)) for name, pages in (("a.txt", 2), ("b.txt", 3))}
    app.close()
    shutil.rmtree(settings.home / "backups")
    LOSSES[how](settings.home / "docpod.sqlite3")
    again = open_app()
    assert "no backup" in again.notice
    assert "b, a" in again.notice
    assert {entry.document_id for entry in again.library.catalogue.entries()} == ids == originals(settings)
    for document_id in ids:
        assert list(again.library.wait(document_id))
        assert paper.last(again.questions.ask(document_id, QUESTION)).citations


def test_originals_alone_are_a_library(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.pdf(tmp_path / "a.pdf"))
    app.close()
    for name in ("docpod.sqlite3", "library.json"):
        (settings.home / name).unlink()
    shutil.rmtree(settings.home / "backups")
    again = open_app()
    list(again.library.wait(document_id))
    assert titles(again) == {"Rooms of the east wing"}


def test_an_older_database_loses_nothing_and_brings_nothing_back(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    kept, deleted = (paper.read_here(app, paper.text(tmp_path / f"{pages}.txt", pages)) for pages in (1, 2))
    app.close()
    yesterday = tmp_path / "yesterday"
    shutil.copy(settings.home / "docpod.sqlite3", yesterday)
    app = open_app()
    added = paper.read_here(app, paper.text(tmp_path / "3.txt", 3))
    app.library.delete(deleted)
    app.close()

    shutil.copy(yesterday, settings.home / "docpod.sqlite3")
    again = open_app()
    assert "older" in again.notice
    assert {each.document_id: each.progress.stage for each in again.library.catalogue.entries()} == {
        kept: "ready",
        added: "ready",
    }
    again.close()

    # And where there is no backup that is newer.
    shutil.rmtree(settings.home / "backups")
    shutil.copy(yesterday, settings.home / "docpod.sqlite3")
    again = open_app()
    assert "older" in again.notice
    assert {each.document_id: each.progress.stage for each in again.library.catalogue.entries()} == {
        kept: "ready",
        added: "queued",
    }
    assert again.verify()[1] == []
    again.close()
    assert open_app().notice == ""


def test_a_database_of_another_library_is_not_taken_for_this_one(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    other = open_app(home=tmp_path / "other")
    for pages in (4, 5):
        other.library.add(paper.text(tmp_path / f"{pages}.txt", pages), "other.txt", move=False)
    other.close()
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)
    app.close()
    shutil.copy(tmp_path / "other" / "docpod.sqlite3", settings.home / "docpod.sqlite3")
    again = open_app()
    assert [each.document_id for each in again.library.catalogue.entries()] == [document_id]


def test_what_is_unknown_is_set_aside_and_goes_with_its_document(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt", 2))
    app.close()
    pods = settings.home / "pods"
    name = next(pods.iterdir()).name
    shutil.copy(pods / name, pods / f"{name[:16]}-9-l000-0.pod")
    (pods / "foreign.pod").write_bytes(b"x")
    again = open_app()
    assert {path.name.rpartition("-")[0] for path in pods.iterdir()} == set(paper.blocks(settings.home))
    aside = {path.name for path in (settings.home / "quarantine").glob("*/pods/*")}
    assert aside == {"foreign.pod", f"{name[:16]}-9-l000-0.pod"}
    again.library.delete(document_id)
    assert {path.name for path in (settings.home / "quarantine").glob("*/pods/*")} == {"foreign.pod"}


def test_a_deletion_that_was_interrupted_comes_to_its_end(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt", 2))
    app._store.doom_document(document_id)
    app.close()
    again = open_app()
    assert again.library.catalogue.entries() == []
    assert originals(settings) == set()
    assert list((settings.home / "pods").iterdir()) == []


def test_no_backup_keeps_what_was_deleted(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    app = open_app()
    (tmp_path / "a.txt").write_text("A marmalade theodolite was found in the attic.")
    document_id = paper.read_here(app, tmp_path / "a.txt")
    app.close()
    assert any(b"theodolite" in path.read_bytes() for path in (settings.home / "backups").iterdir())
    app = open_app()
    app.library.delete(document_id)
    app.close()
    backups = list((settings.home / "backups").iterdir())
    assert len(backups) == 1
    assert b"theodolite" not in backups[0].read_bytes()


def test_backups_are_few_and_whole(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    open_app().close()
    (first,) = (settings.home / "backups").iterdir()
    for pages in range(1, 6):
        app = open_app()
        app.library.add(paper.text(tmp_path / f"{pages}.txt", pages), "a.txt", move=False)
        app.close()
    backups = sorted((settings.home / "backups").iterdir())
    assert len(backups) == 3
    # Those that came one right after another do not drive out the first.
    assert backups[0] == first
    with closing(sqlite3.connect(backups[-1])) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM documents").fetchone() == (5,)
    before = {path.name: path.stat().st_mtime_ns for path in backups}
    open_app().close()
    assert {path.name: path.stat().st_mtime_ns for path in (settings.home / "backups").iterdir()} == before


def test_a_damaged_database_takes_no_backup_with_it(
    open_app: OpenApp, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)
    app.close()
    app = open_app()
    app.library.delete(document_id)
    copied = Keeper._copy

    def copies_damage(keeper: Keeper, number: int) -> None:
        database = settings.home / "docpod.sqlite3"
        good = database.read_bytes()
        database.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
        try:
            copied(keeper, number)
        finally:
            database.write_bytes(good)

    monkeypatch.setattr(Keeper, "_copy", copies_damage)
    app.close()
    assert len(list((settings.home / "backups").iterdir())) == 1


def test_a_database_that_is_lost_while_it_is_open_takes_no_backup_with_it(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)
    app.close()
    before = {path.name: path.read_bytes() for path in (settings.home / "backups").iterdir()}
    app = open_app()
    (settings.home / "docpod.sqlite3").unlink()
    with pytest.raises(DiskFailed, match="it is gone"):
        open_app()
    added = app.library.add(paper.text(tmp_path / "b.txt", 3), "b.txt", move=False)
    app.library.rename(added, "Rooms")
    app.close()
    assert {path.name: path.read_bytes() for path in (settings.home / "backups").iterdir()}.items() >= before.items()
    again = open_app()
    assert "backup" in again.notice
    assert {each.document_id for each in again.library.catalogue.entries()} == {document_id, added}
    assert "Rooms" in titles(again)


def test_a_database_that_changed_since_it_was_closed_gives_way_to_a_backup_that_is_as_new(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)
    app.library.rename(document_id, "Rooms")
    app.close()
    database = settings.home / "docpod.sqlite3"

    def changed() -> App:
        stat = database.stat()
        database.write_bytes(database.read_bytes().replace(b"Rooms", b"Roams"))
        os.utime(database, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return open_app()

    again = changed()
    assert "was damaged" in again.notice and titles(again) == {"Rooms"}
    assert not (settings.home / "sealed").exists()
    again.close()
    shutil.rmtree(settings.home / "backups")
    again = changed()
    assert "put right" in again.notice and titles(again) == {"Rooms"}


def test_a_name_that_is_no_text_any_more_is_damage(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    """SQLite tells of it by that name, which Python cannot read."""
    app = open_app()
    app.library.rename(app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False), "Rooms")
    app.close()
    database = settings.home / "docpod.sqlite3"
    whole, made = database.read_bytes(), b"CREATE INDEX pages_by_state"
    assert made in whole
    spoilt = whole.replace(made, b"CREATE XNDEX pages_by_state").replace(b"pages_by_state", b"pages_by_stat\x96")
    database.write_bytes(spoilt)
    again = open_app()
    assert "was damaged" in again.notice and titles(again) == {"Rooms"}


def test_a_database_that_was_not_backed_up_at_the_end_is_not_sealed(
    open_app: OpenApp, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt", move=False)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Keeper, "_copy", fails)
    app.close()
    assert not (settings.home / "sealed").exists()
    assert open_app().notice == ""
