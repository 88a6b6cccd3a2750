"""Damage to files and rows is found, said, and mended from what is whole."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from app.errors import DamagedDocument
from app.settings import Settings
from storage import Store, podfile
from tests.app import paper
from tests.app.conftest import OpenApp
from tests.app.test_cli import QUESTION, Cli, cli
from tests.app.test_intake import encrypted
from tests.damage import change

__all__ = ["cli"]


def test_an_error_of_the_disk_in_a_pod_is_damage_that_is_read_again(
    open_app: OpenApp, settings: Settings, source: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_app()
    document_id = paper.read_here(app, source)
    blocks = paper.blocks(settings.home)
    app.close()
    app = open_app()
    with monkeypatch.context() as broken:

        def fails(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        broken.setattr(podfile, "_fill", fails)
        checked, damaged = app.verify()
        assert checked == len(damaged) == len(blocks)
        assert paper.failure(app.questions.ask(document_id, QUESTION)) is not None
    paper.read_here(app, source)
    assert len(paper.blocks(settings.home)) == len(blocks)
    assert paper.last(app.questions.ask(document_id, QUESTION)).citations


def test_a_changed_character_of_a_page_comes_from_the_original_again(
    open_app: OpenApp, source: Path, store: Store
) -> None:
    app = open_app()
    document_id = paper.read_here(app, source)
    app.close()
    page = store.page(document_id, 2)
    text = page.text
    page.text = text.replace("access", "accost")
    store.replace_page(document_id, page)
    app = open_app()
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    assert str(paper.code(2)) in answer.citations[0].quote
    assert store.page(document_id, 2).text == text
    assert [number for number, _ in store.search_pages(document_id, ["access"], 9)].count(2) == 1
    assert store.search_pages(document_id, ["accost"], 9) == []


def test_text_that_its_original_does_not_give_is_told(
    open_app: OpenApp, source: Path, store: Store, settings: Settings
) -> None:
    app = open_app()
    document_id = paper.read_here(app, source)
    app.close()
    page = store.page(document_id, 2)
    page.text = page.text.replace("access", "accost")
    store.replace_page(document_id, page)
    (settings.home / "documents" / document_id).write_text("Another text.")
    assert isinstance(paper.failure(open_app().questions.ask(document_id, QUESTION)), DamagedDocument)


def test_a_damaged_original_is_named_and_healed_by_adding_it_again(
    cli: Cli, open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    files = [paper.pdf(tmp_path / "a.pdf"), paper.text(tmp_path / "b.txt", 2), paper.text(tmp_path / "c.txt", 3)]
    truncated, swapped, whole = (cli("read", each, "--json").json["document_id"] for each in files)
    assert cli("doctor", "--json").json["damaged_originals"] == []
    documents = settings.home / "documents"
    (documents / truncated).write_bytes(files[0].read_bytes()[:700])
    (documents / swapped).write_bytes(files[2].read_bytes())
    app = open_app()
    app.start()
    paper.wait_until(lambda: "Rooms of the east wing" in (said := app.status().notice) and " b" in said)
    app.library.add(files[0], "a.pdf", move=False)
    app.library.add(files[1], "b.txt", move=False)
    assert app.status().notice == ""
    for document_id, path in zip((truncated, swapped, whole), files, strict=True):
        assert (documents / document_id).read_bytes() == path.read_bytes()
    app.close()

    # What changes without a trace is found by looking at every byte.
    path = documents / whole
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"porter", b"parrot"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cli("doctor", "--json").json["damaged_originals"] == []
    assert cli("doctor", "--scrub", "--json").json["damaged_originals"] == ["c"]


def test_a_copy_without_its_password_is_no_damage(open_app: OpenApp, settings: Settings, tmp_path: Path) -> None:
    app = open_app()
    locked = encrypted(tmp_path / "locked.pdf", "sesame")
    document = app.library.intake.keep(locked, "locked.pdf", move=False)
    assert list(app.library.intake.damaged()) == []
    app.library.unlock(document.id, "sesame")
    assert list(app.library.intake.damaged(all_anew=True)) == []
    (unlocked,) = (settings.home / "documents").iterdir()
    app.library.intake.keep(locked, "locked.pdf", move=False)
    assert [*(settings.home / "documents").iterdir()] == [unlocked] and unlocked.name != document.id


def test_what_a_damaged_model_read_is_read_again(cli: Cli, settings: Settings, source: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(settings.model, tmp_path / "a-model"))
    shutil.rmtree(settings.home / "models")
    paper.prepare_models(model, settings.home / "models")
    given = ("--model", str(model), "--json")
    document_id = cli("read", source, *given).json["document_id"]
    weights = model / "model.safetensors"
    stat, good = weights.stat(), weights.read_bytes()
    weights.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cli("doctor", *given).json["damaged_model_files"] == []
    assert cli("doctor", "--scrub", *given).json["damaged_model_files"] == [str(weights)]
    assert paper.blocks(settings.home) == {}
    weights.write_bytes(good)
    assert cli("read", source, *given).json["already_read"] is False
    assert cli("show", document_id, *given).json["state"] == "ready"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE sections SET num_tokens = 0",
        "UPDATE readings SET num_tokens = 0",
        "UPDATE conversations SET created_at = '2026-11-29 14:49:38.05!489'",
        "UPDATE documents SET attachments = '[['",
        "UPDATE documents SET title = CAST(x'ff41' AS TEXT)",
        "UPDATE pages SET state = 'okay'",
        "UPDATE readings SET recipe = 'eyact'",
    ],
)
def test_a_value_that_changed_after_a_kill_is_put_right(cli: Cli, settings: Settings, source: Path, sql: str) -> None:
    document_id = cli("read", source, "--json").json["document_id"]
    right = cli("ask", document_id, QUESTION, "--json").json["answer"]
    change(settings.home / "docpod.sqlite3", sql)
    # As where a process was killed; a library that was closed goes on from its backup.
    (settings.home / "sealed").unlink()
    assert "put right" in cli("ls").err
    for command in (("ls",), ("read", source), ("conversations", "list", document_id), ("ask", document_id, QUESTION)):
        told = cli(*command, "--json")
        assert (told.code, told.err) == (0, ""), (command, told)
        assert command[0] != "ask" or told.json["answer"] == right


def test_a_value_that_changes_in_an_open_library_is_found_and_comes_into_no_backup(
    cli: Cli, open_app: OpenApp, settings: Settings, source: Path
) -> None:
    document_id = cli("read", source, "--json").json["document_id"]
    cli("ask", document_id, QUESTION)
    backups = sorted((settings.home / "backups").iterdir())
    app = open_app()
    app.library.rename(document_id, "Rooms")
    change(settings.home / "docpod.sqlite3", "UPDATE messages SET content = 'x' || content WHERE id = 1")
    assert cli("doctor", "--scrub", "--json").json["damaged_rows"] == ["row 1 of messages"]
    app.close()
    assert sorted((settings.home / "backups").iterdir()) == backups
    assert "1 value was put right" in cli("ls").err
    assert cli("conversations", "list", document_id, "--json").json[0]["title"] == QUESTION
    assert len(sorted((settings.home / "backups").iterdir())) > len(backups)
