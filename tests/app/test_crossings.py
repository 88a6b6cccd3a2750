"""Crossings: what other threads and other processes do to a document while this one is at work on it.

A second app on the same home stands for another process: it shares files and database, and nothing else.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from app import intake
from app.document_reader import DocumentReader
from app.errors import Busy, DiskFull, DocumentNotFound
from app.main import App
from app.planning import Planner
from app.settings import Settings
from engine.core.errors import ModelMissing
from engine.kvcache.blocks import by_layer
from storage import Reading, StorageFull, Store, write_block
from tests.app import paper
from tests.app.conftest import OpenApp
from tests.app.test_memory import QUESTION, files, flip_a_byte, read_some
from tests.app.test_presets import by_recipe

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def server(open_app: OpenApp, monkeypatch: pytest.MonkeyPatch) -> App:
    """A running app that looks often for what others left."""
    monkeypatch.setattr("app.worker.POLL_SECONDS", 0.05)
    server = open_app()
    server.start()
    server.model.wait()
    return server


def test_a_reading_that_another_process_left_is_taken_up(server: App, open_app: OpenApp, source: Path) -> None:
    other = open_app()
    reading = paper.planned(other, source)
    read_some(other, reading, 3)
    paper.wait_for(server, reading.document_id, "ready")


def test_damage_that_another_process_found_is_mended(
    server: App, open_app: OpenApp, settings: Settings, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_app()
    document_id = paper.read_here(other, source)
    other.close()
    written = paper.blocks(settings.home)
    flip_a_byte(files(settings)[0])
    assert paper.last(open_app().questions.ask(document_id, QUESTION))
    assert [record.name for record in caplog.records] == ["app.block_store"]
    paper.wait_until(lambda: len(files(settings)) == len(written))
    paper.wait_for(server, document_id, "ready")
    assert paper.blocks(settings.home) == written


def test_what_another_process_cancels_is_read_no_further(
    app: App, open_app: OpenApp, store: Store, settings: Settings, source: Path
) -> None:
    reading = paper.planned(app, source)
    work = app.model.wait().reader.read(reading)
    for _ in range(3):
        next(work)
    other = open_app()
    other.model.wait()
    other.library.cancel(reading.document_id)
    assert len(list(work)) <= 1
    assert store.reading(reading.id).state == "cancelled"


def test_a_memory_that_was_chosen_meanwhile_stays(
    open_app: OpenApp, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process makes a document's memory by one recipe while another one chooses and makes another."""
    server, other = open_app(), open_app(recipe="keep27+k4v4h+near4,32")
    document_id = paper.read_here(server, source)
    server.model.wait()
    server.start()
    read = DocumentReader.read

    def read_and_crossed(reader: DocumentReader, reading: Reading, *rest: object) -> Iterator[object]:
        yield from read(reader, reading, *rest)
        if reader is server.model.wait().reader and reading.recipe == "light":
            monkeypatch.setattr(DocumentReader, "read", read)
            assert list(other.library.wait(document_id))

    monkeypatch.setattr(DocumentReader, "read", read_and_crossed)
    server.library.choose(document_id, "light")
    paper.wait_until(lambda: by_recipe(store, document_id).get("keep27+k4v4h+near4,32") == "ready")
    server.close()
    assert by_recipe(store, document_id) == {"exact": "ready", "light": "ready", "keep27+k4v4h+near4,32": "ready"}


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_nobody_waits_for_the_model_to_be_rid_of_a_document(
    open_app: OpenApp, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    loaded = threading.Event()

    def load(*_: object) -> None:
        loaded.wait()
        raise ModelMissing("too late")

    monkeypatch.setattr("engine.models.loader.load", load)
    app = open_app()
    app.start()
    document_id = app.library.add(source, "a.txt")
    paper.wait_until(lambda: app.library.catalogue.entry(document_id).pages > 0)
    getattr(app.library, verb)(document_id)
    document = store.document(document_id)
    assert document is None if verb == "delete" else document.state == "rejected"
    app.close()
    monkeypatch.undo()
    loaded.set()


def test_what_is_cancelled_while_it_is_planned_is_cancelled(
    server: App, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, going_on = threading.Event(), threading.Event()
    plan = Planner.plan

    def slow(planner: Planner, document_id: str, recipe: str) -> object:
        planning.set()
        assert going_on.wait(60)
        return plan(planner, document_id, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(Planner, "plan", slow)
        document_id = server.library.add(source, "a.txt")
        assert planning.wait(60)
        cancelling = threading.Thread(target=server.library.cancel, args=(document_id,))
        cancelling.start()
        cancelling.join(0.2)
        going_on.set()
        cancelling.join()
    assert [each.state for each in store.readings(document_id)] == ["cancelled"]


@pytest.mark.parametrize("recipe", ["exact", "light"])
def test_a_reading_that_goes_between_two_looks_at_it_is_no_mistake(
    open_app: OpenApp, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    app = open_app(recipe=recipe)
    document_id = paper.read_here(app, source)
    monkeypatch.setattr(Store, "read_so_far", lambda *_: [])
    assert app.library.presets(document_id) is not None
    assert app.library.catalogue.entry(document_id).document_id == document_id


def test_a_plan_is_not_made_from_a_reading_that_is_gone(
    app: App, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    planner = app.model.wait().planner
    readings = planner.readings(document_id)
    store.delete_reading(readings[0].id)
    monkeypatch.setattr(planner, "readings", lambda _: readings)
    assert len(store.sections(planner.plan(document_id, "light").id)) == 2


def test_a_disk_that_is_full_when_a_section_is_packed_leaves_no_files(
    open_app: OpenApp, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "BLOCK_BYTES", 1)
    app = open_app(recipe="keep50:norm+k8v8h")
    reading = paper.planned(app, source)

    def full(folder: Path, name: str, *rest: object) -> tuple[int, str]:
        if "-l002-" in name:
            raise StorageFull(1, 0)
        return write_block(folder, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("app.block_store.write_block", full)
        for _ in range(3):
            assert isinstance(paper.failure(app.library.wait(reading.document_id)), DiskFull)
            assert {path.name for path in files(settings)} == store.all_block_files()
    assert list(app.library.wait(reading.document_id))
    assert {path.name for path in files(settings)} == store.all_block_files()


def test_a_document_that_is_deleted_while_it_is_unlocked_leaves_no_bytes(
    app: App, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = app.library.intake.keep(source, source.name, move=False)

    def unlocked(path: Path, password: str, opened: Path, limits: object) -> None:
        opened.write_bytes(b"open")
        app.library.delete(document.id)

    monkeypatch.setattr(intake, "unlock", unlocked)
    with pytest.raises(DocumentNotFound):
        app.library.unlock(document.id, "sesame")
    assert list((settings.home / "documents").iterdir()) == []


def test_bytes_that_another_process_adds_while_they_are_deleted_stay(
    app: App, open_app: OpenApp, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = app.library.intake.keep(source, source.name, move=False)
    other = open_app()
    delete_document = Store.delete_document

    def deleted_and_added(self: Store, document_id: str) -> None:
        with pytest.raises(Busy):
            other.library.intake.keep(source, source.name, move=False)
        delete_document(self, document_id)
        other.library.intake.keep(source, source.name, move=False)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete_document", deleted_and_added)
        app.library.delete(document.id)
    with app.library.original(document.id) as kept:
        assert kept.read_bytes() == source.read_bytes()


def test_the_check_of_all_blocks_does_not_report_what_was_replaced(
    app: App, store: Store, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = paper.read_here(app, source)
    first = store.sections(store.readings(document_id)[0].id)[0]
    gone, *others = store.blocks(first.id)
    (settings.home / "pods" / gone.file_name).unlink()
    assert app.verify()[1] == [gone.file_name]
    blocks, seen = Store.blocks, SimpleNamespace(before=True)

    def replaced(self: Store, section_id: int) -> list[object]:
        if section_id != first.id or seen.before:
            seen.before = seen.before and section_id != first.id
            return blocks(self, section_id)
        return others

    monkeypatch.setattr(Store, "blocks", replaced)
    assert app.verify()[1] == []


def test_what_another_model_is_loaded_in_changes_no_answer(open_app: OpenApp, source: Path) -> None:
    """While a library loads a model, the type of numbers that it wants is everybody's, in all threads."""
    app = open_app()
    document_id = paper.read_here(app, source)
    right = paper.last(app.questions.ask(document_id, QUESTION))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        answer = paper.last(open_app().questions.ask(document_id, QUESTION))
    finally:
        torch.set_default_dtype(before)
    assert (answer.answer, answer.citations) == (right.answer, right.citations)
