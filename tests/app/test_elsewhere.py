"""A library on servers: what one machine reads another answers from, and servers that go away lose nothing."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import AppError
from app.main import App
from app.refusals import report
from app.settings import Settings
from storage import StorageAway
from tests.app import paper
from tests.app.conftest import Turns
from tests.servers import PostgresServer, S3Server, running_postgres

QUESTION = "What is the access code of room 3?"

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def machine(tmp_path: Path, plain_settings: Settings, prepared_models: Path) -> Iterator[Callable[..., App]]:
    """Opens an app on a machine that has nothing but models."""
    opened: list[App] = []

    def one(name: str, **places: str) -> App:
        home = tmp_path / name
        shutil.copytree(prepared_models, home / "models")
        opened.append(App(replace(plain_settings, home=home, **places)))
        return opened[-1]

    yield one
    for app in opened:
        app.close()


def test_what_one_machine_reads_another_answers_from(
    machine: Callable[..., App], app: App, source: Path, tmp_path: Path, postgres: PostgresServer, s3: S3Server
) -> None:
    places = {"database": postgres.url(), "store": s3.url()}
    first, second = machine("first", **places), machine("second", **places)
    document_id = paper.read_here(first, Path(shutil.copy(source, tmp_path / "copy.txt")))
    assert paper.read_here(app, source) == document_id
    alone, here, there = (paper.last(each.questions.ask(document_id, QUESTION)) for each in (app, first, second))
    for each in (here, there):
        assert (each.answer, each.citations, each.reused_tokens) == (alone.answer, alone.citations, alone.reused_tokens)
    with second.library.original(document_id) as path, app.library.original(document_id) as ours:
        assert path.read_bytes() == ours.read_bytes()
    assert second.verify() == first.verify()
    assert second.database.startswith("PostgreSQL")
    first.library.delete(document_id)
    assert second.library.catalogue.entries() == []
    assert not [path for path in (tmp_path / "first" / "cache").rglob("*") if path.name.startswith(document_id)]


@pytest.mark.parametrize("which", ["database", "store"])
def test_reading_goes_on_once_servers_are_back(
    machine: Callable[..., App],
    source: Path,
    turns: Turns,
    s3: S3Server,
    which: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.worker.POLL_SECONDS", 0.1)
    monkeypatch.setattr("storage.object_store.PATIENCE_SECONDS", 0.0)
    with running_postgres() as server:
        app = machine("home", database=server.url(), store=s3.url())
        app.start()
        document_id = app.library.add(source, "a.txt")
        turns.give(3)
        paper.wait_until(lambda: turns.begun == 4, "the fourth chunk")
        stop, start = (server.stop, server.start) if which == "database" else (s3.stop, s3.start)
        stop()
        try:
            turns.give_all()
            paper.wait_until(lambda: bool(failed(app, document_id)), "the failure")
            if which == "database":
                with pytest.raises(StorageAway) as raised:
                    app.library.rename(document_id, "Mine")
                assert "cannot be reached" in report(raised.value).message
        finally:
            start()
        paper.wait_for(app, document_id, "ready")
        assert "4111" in paper.last(app.questions.ask(document_id, QUESTION)).citations[0].quote
        assert app.verify()[1] == []
        app.close()


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"database": "mysql://x"}, "no database that DocPod knows"),
        ({"database": "postgresql://u@127.0.0.1:1/x"}, "cannot be reached"),
        ({"store": "nosuch://x"}, "nosuch"),
    ],
)
def test_places_that_cannot_be_used_are_sentences(
    machine: Callable[..., App], places: dict[str, str], said: str
) -> None:
    with pytest.raises(AppError, match=said) as raised:
        machine("home", **places)
    assert raised.value.hint


def test_an_app_ends_though_its_database_is_away(machine: Callable[..., App], source: Path) -> None:
    with running_postgres() as server:
        app = machine("home", database=server.url())
        app.start()
        paper.wait_for(app, app.library.add(source, source.name, move=False), "ready")
        server.stop()
        app.close()


def failed(app: App, document_id: str) -> str:
    """Why it is not read, as far as that can be told without the database."""
    progress = app.library._worker.progress(document_id)
    return progress.message if progress and progress.stage == "failed" and "reached" in progress.message else ""


def test_a_home_on_servers_holds_nothing_of_its_documents(
    machine: Callable[..., App], source: Path, tmp_path: Path, postgres: PostgresServer
) -> None:
    app = machine("home", database=postgres.url(), store=str(tmp_path / "share"))
    document_id = paper.read_here(app, source)
    app.close()
    assert [path.name for path in (tmp_path / "share" / "documents").iterdir()] == [document_id]
    names = {path.name for path in (tmp_path / "home").rglob("*")}
    assert not [name for name in names if document_id[:12] in name or "sqlite" in name]
