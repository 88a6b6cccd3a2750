"""A disk that is full, or cannot be written to: what can be done is done, and the rest is said in sentences."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app import document_reader
from app.errors import DiskFailed, DiskFull
from app.settings import Settings
from storage.reserve import RESERVE_BYTES
from tests.app import paper
from tests.app.conftest import OpenApp
from tests.app.test_cli import QUESTION, Cli, cli

__all__ = ["cli"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def settings(settings: Settings, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home on that disk, and no spare room for reading."""
    monkeypatch.setattr(document_reader, "DISK_SPARE_BYTES", 0)
    shutil.move(settings.home, disk / "home")
    return replace(settings, home=disk / "home")


@pytest.fixture
def fill(disk: Path) -> Callable[[], None]:
    """Leaves no byte."""

    def fill_it() -> None:
        with (disk / f"fill-{len(list(disk.iterdir()))}").open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    return fill_it


def test_an_open_library_can_be_tidied(
    open_app: OpenApp, disk: Path, settings: Settings, tmp_path: Path, fill: Callable[[], None]
) -> None:
    app = open_app()
    ids = [paper.read_here(app, paper.text(tmp_path / f"{pages}.txt", pages)) for pages in (2, 3)]
    waiting = app.library.add(paper.text(tmp_path / "w.txt", 4), "w.txt", move=False)
    conversation = paper.last(app.questions.ask(ids[0], QUESTION)).conversation_id
    big = tmp_path / "big.txt"
    big.write_text("All work and no play.\n" * (RESERVE_BYTES // 30))
    fill()
    assert shutil.disk_usage(disk).free == 0
    app.library.rename(ids[0], "Rooms")
    app._store.prefer("recipe", "exact")
    app.chat.delete(conversation)
    app.library.cancel(waiting)
    with pytest.raises(DiskFull):
        app.library.add(big, big.name, move=False)
    app.library.delete(ids[1])
    assert {entry.document_id: entry.name for entry in app.library.catalogue.entries()}[ids[0]] == "Rooms"
    assert not (settings.home / "documents" / ids[1]).exists()


def test_a_full_home_opens_and_is_tidied_and_keeps_room_for_the_next_time(
    open_app: OpenApp, settings: Settings, disk: Path, tmp_path: Path, fill: Callable[[], None]
) -> None:
    app = open_app()
    ids = [paper.read_here(app, paper.text(tmp_path / f"{pages}.txt", pages)) for pages in (2, 3)]
    app.close()
    for left in reversed(ids):
        fill()
        open_app().close()
        assert (settings.home / "reserve").stat().st_size > RESERVE_BYTES * 3 // 4
        fill()
        app = open_app()
        app.library.delete(left)
        app.close()
    assert open_app().library.catalogue.entries() == []


def test_every_command_on_a_full_disk_ends_in_a_sentence(
    cli: Cli, settings: Settings, tmp_path: Path, fill: Callable[[], None]
) -> None:
    document_id = cli("read", paper.text(tmp_path / "a.txt", 2), "--json").json["document_id"]
    (settings.home / "reserve").unlink()
    fill()
    more = paper.text(tmp_path / "b.txt", 3)
    for command in (
        ("ls",),
        ("show", document_id),
        ("read", more),
        ("ask", document_id, QUESTION),
        ("rename", document_id, "New"),
        ("recipe", document_id, "keep27+k4v4h+near4,32"),
        ("conversations", "list", document_id),
        ("keys", "create", "name"),
        ("doctor",),
        ("rescue",),
        ("cancel", document_id),
        ("delete", document_id),
    ):
        told = cli(*command, "--json")
        assert told.code == 0 or ("little room" in told.err and "Delete documents" in told.err), (command, told)


def test_a_home_that_can_only_be_read_is_read(
    cli: Cli, open_app: OpenApp, disk: Path, settings: Settings, tmp_path: Path
) -> None:
    document_id = cli("read", paper.text(tmp_path / "a.txt", 2), "--json").json["document_id"]
    before = paper.everything(settings.home)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    listed = cli("ls", "--json")
    assert [each["document_id"] for each in listed.json] == [document_id]
    assert f"{settings.home} can only be read" in listed.err
    assert cli("ask", document_id, QUESTION, "--json").json["citations"]
    app = open_app()
    scratch = app.settings.home
    for refused in (
        lambda: app.library.delete(document_id),
        lambda: app.library.add(paper.text(tmp_path / "b.txt", 3), "b.txt", move=False),
    ):
        with pytest.raises(DiskFailed, match="Read-only"):
            refused()
    app.close()
    assert not scratch.exists()
    assert paper.everything(settings.home) == before
    assert os.access(settings.home, os.W_OK) is False
