"""The library: what a user's verbs do to a document, at any moment, and what is left of it after a restart."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.document_reader import DocumentReader
from app.errors import DocumentNotFound, NotRead
from app.library import Library
from app.main import App
from app.planning import Planner
from app.settings import Settings
from engine.core.errors import ModelMissing
from storage import Home, NotStored, Reading, Store
from tests.app import paper
from tests.app.conftest import OpenApp, Turns

pytestmark = pytest.mark.usefixtures("in_this_process")

PAGES = 24


@pytest.fixture
def app(turns: Turns, open_app: OpenApp) -> Iterator[App]:
    """A running app that reads a chunk whenever the test gives a turn."""
    app = open_app()
    app.start()
    yield app
    turns.give_all()
    app.close()


@pytest.fixture
def document_id(app: App, turns: Turns, tmp_path: Path) -> str:
    """A document of several sections and some 35 chunks, of which one is read and the next has begun."""
    document_id = app.library.add(paper.text(tmp_path / "a.txt", PAGES), "a.txt")
    turns.give()
    paper.wait_until(lambda: turns.begun == 2)
    return document_id


def stage(app: App, document_id: str) -> str:
    return app.library.catalogue.entry(document_id).progress.stage


def reading(settings: Settings) -> Reading:
    store = Store.open(Home(settings.home).database_url)
    (found,) = store.readings()
    store.close()
    return found


def with_a_turn(app: App, turns: Turns, verb: Callable[[str], None], document_id: str) -> None:
    """Some verbs wait for the chunk at hand."""
    thread = threading.Thread(target=verb, args=(document_id,))
    thread.start()
    paper.wait_until(lambda: stage(app, document_id) != "reading")
    turns.give()
    thread.join()


def test_reading_shows_where_it_is(app: App, turns: Turns, document_id: str) -> None:
    progress = app.library.catalogue.entry(document_id).progress
    assert (progress.stage, progress.done, progress.pages_total) == ("reading", 128, PAGES)
    assert progress.total > 20 * 128
    assert progress.tokens_per_second > 0
    # A token later in a section takes longer than the first ones.
    assert progress.seconds_left > (progress.total - 128) / progress.tokens_per_second
    turns.give_all()
    entry = paper.wait_for(app, document_id, "ready")
    assert entry.progress.done == entry.progress.total


def test_a_pause_keeps_what_is_read_and_outlasts_a_restart(
    app: App, open_app: OpenApp, turns: Turns, settings: Settings, document_id: str
) -> None:
    app.library.pause(document_id)
    assert stage(app, document_id) == "paused"
    turns.give()
    paper.wait_until(lambda: sum(path.suffix == ".pod" for path in (settings.home / "pods").iterdir()) == 2)
    turns.give(5)
    app.close()
    assert len(paper.blocks(settings.home)) == 2

    again = open_app()
    again.start()
    again.model.wait()
    other = again.library.add(paper.text(settings.home.parent / "b.txt", 1), "b.txt")
    turns.give_all()
    paper.wait_for(again, other, "ready")
    progress = again.library.catalogue.entry(document_id).progress
    assert (progress.stage, progress.done) == ("paused", 256)
    assert 0 < progress.pages_done < PAGES
    again.library.read(document_id)
    paper.wait_for(again, document_id, "ready")


def test_a_document_is_planned_once(app: App, turns: Turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, planned = Planner.plan, []

    def counted(planner: Planner, document_id: str, recipe: str) -> Reading:
        planned.append(document_id)
        return plan(planner, document_id, recipe)

    monkeypatch.setattr(Planner, "plan", counted)
    turns.give_all()
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 2), "a.txt")
    paper.wait_for(app, document_id, "ready")
    assert planned == [document_id]


def test_paused_and_resumed_at_once_goes_on(app: App, turns: Turns, document_id: str) -> None:
    for _ in range(5):
        app.library.pause(document_id)
        app.library.read(document_id)
    assert stage(app, document_id) in ("queued", "reading")
    turns.give_all()
    paper.wait_for(app, document_id, "ready")


def test_a_pause_wins_over_the_beginning_of_the_reading(
    app: App, turns: Turns, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moment a reading is taken from the queue and its first chunk, the user pauses it."""
    read = DocumentReader.read

    def pause_first(reader: DocumentReader, reading: Reading, stopped: Callable[[], bool]) -> Iterator[object]:
        app.library.pause(reading.document_id)
        yield from read(reader, reading, stopped)

    monkeypatch.setattr(DocumentReader, "read", pause_first)
    document_id = app.library.add(paper.text(tmp_path / "a.txt"), "a.txt")
    paper.wait_until(lambda: bool(app.library.catalogue.readings(document_id)))
    paper.wait_for(app, document_id, "waiting")
    assert turns.begun == 0
    app.close()
    assert reading(settings).state == "paused"


def test_cancelling_leaves_no_bytes_and_outlasts_a_restart(
    app: App, open_app: OpenApp, turns: Turns, settings: Settings, document_id: str
) -> None:
    with_a_turn(app, turns, app.library.cancel, document_id)
    entry = app.library.catalogue.entry(document_id)
    assert (entry.progress.stage, entry.progress.done, entry.pod_bytes) == ("cancelled", 0, 0)
    assert paper.blocks(settings.home) == {}
    app.close()

    again = open_app()
    again.start()
    other = again.library.add(paper.text(settings.home.parent / "b.txt", 1), "b.txt")
    turns.give_all()
    paper.wait_for(again, other, "ready")
    assert stage(again, document_id) == "cancelled"
    again.library.read(document_id)
    paper.wait_for(again, document_id, "ready")


def test_a_cancelled_document_that_is_added_again_is_read(
    app: App, turns: Turns, document_id: str, tmp_path: Path
) -> None:
    with_a_turn(app, turns, app.library.cancel, document_id)
    turns.give_all()
    assert app.library.add(paper.text(tmp_path / "again.txt", PAGES), "again.txt") == document_id
    paper.wait_for(app, document_id, "ready")


def test_a_document_that_is_cancelled_before_it_is_known_stays_unread(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = app.library.add(paper.text(tmp_path / "a.txt"), "a.txt")
    app.library.cancel(document_id)
    assert app.library.catalogue.entry(document_id).progress.message == "Cancelled before it was read."
    app.close()
    again = open_app()
    again.start()
    other = again.library.add(paper.text(tmp_path / "b.txt", 1), "b.txt")
    paper.wait_for(again, other, "ready")
    assert stage(again, document_id) == "failed"
    again.library.read(document_id)
    paper.wait_for(again, document_id, "ready")


def test_cancelling_what_is_ready_changes_nothing(app: App, turns: Turns, settings: Settings, document_id: str) -> None:
    turns.give_all()
    paper.wait_for(app, document_id, "ready")
    written = paper.blocks(settings.home)
    app.library.cancel(document_id)
    app.library.pause(document_id)
    assert stage(app, document_id) == "ready"
    assert paper.blocks(settings.home) == written


def test_deleting_while_reading_leaves_nothing(
    app: App, turns: Turns, settings: Settings, document_id: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with_a_turn(app, turns, app.library.delete, document_id)
    assert app.library.catalogue.entries() == []
    for verb in (
        app.library.catalogue.entry,
        app.library.read,
        app.library.pause,
        app.library.cancel,
        app.library.delete,
    ):
        with pytest.raises(DocumentNotFound):
            verb(document_id)
    assert paper.blocks(settings.home) == {}
    assert list((settings.home / "documents").iterdir()) == []
    assert b"access code of room" not in paper.everything(settings.home)
    turns.give_all()
    other = app.library.add(paper.text(tmp_path / "b.txt", 2), "b.txt")
    paper.wait_for(app, other, "ready")
    assert caplog.records == []


def test_a_document_that_another_process_deletes_while_it_is_read_leaves_nothing(
    app: App, open_app: OpenApp, turns: Turns, settings: Settings, document_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_app().library.delete(document_id)
    turns.give_all()
    other = app.library.add(paper.text(settings.home.parent / "b.txt", 2), "b.txt")
    paper.wait_for(app, other, "ready")
    store = Store.open(Home(settings.home).database_url)
    assert {path.name for path in (settings.home / "pods").iterdir()} == store.all_block_files()
    store.close()
    assert [entry.document_id for entry in app.library.catalogue.entries()] == [other]
    assert caplog.records == []


def test_deleting_takes_the_conversations_along(app: App, turns: Turns, document_id: str, settings: Settings) -> None:
    turns.give_all()
    paper.wait_for(app, document_id, "ready")
    answer = paper.last(app.questions.ask(document_id, "What is the access code of the zeppelin room 2?"))
    app.library.delete(document_id)
    assert app.questions.turns(answer.conversation_id) == []
    assert b"zeppelin" not in paper.everything(settings.home)
    assert isinstance(paper.failure(app.questions.ask(document_id, "Which?")), DocumentNotFound)


def test_closing_while_reading_loses_at_most_the_chunk_at_hand(
    app: App, open_app: OpenApp, turns: Turns, settings: Settings, document_id: str
) -> None:
    turns.give(2)
    paper.wait_until(lambda: turns.begun == 4)
    closing = threading.Thread(target=app.close)
    closing.start()
    paper.wait_until(lambda: app.library._worker._closed)
    turns.give()
    closing.join()
    read = paper.blocks(settings.home)
    assert len(read) == 4
    assert reading(settings).state == "reading"

    again = open_app()
    assert stage(again, document_id) == "queued"
    again.start()
    turns.give_all()
    paper.wait_for(again, document_id, "ready")
    written = paper.blocks(settings.home)
    assert {name: written[name] for name in read} == read


def test_closing_does_not_wait_for_the_model(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        loading.set()
        loaded.wait()
        raise ModelMissing("too late")

    monkeypatch.setattr("engine.models.loader.load", load)
    app = open_app()
    app.start()
    document_id = app.library.add(paper.text(tmp_path / "a.txt"), "a.txt")
    loading.wait()
    paper.wait_until(lambda: app.library.catalogue.entry(document_id).pages > 0)
    app.close()
    monkeypatch.undo()
    loaded.set()
    assert open_app().library.catalogue.entry(document_id).progress.stage == "queued"


def test_a_long_document_waits_for_the_users_word(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ingest.ASK_FIRST_SECONDS", 0)
    app = open_app()
    app.start()
    document_id = app.library.add(paper.text(tmp_path / "a.txt"), "a.txt")
    entry = paper.wait_for(app, document_id, "waiting")
    forecast = entry.forecast
    assert forecast.pages == entry.pages and forecast.tokens > 0 and forecast.seconds > 0
    assert forecast.free_disk_bytes > 0
    assert isinstance(paper.failure(app.questions.ask(document_id, "Which?")), NotRead)
    assert app.library.add(paper.text(tmp_path / "a.txt"), "a.txt") == document_id
    assert stage(app, document_id) == "waiting"
    app.library.read(document_id)
    pod_bytes = paper.wait_for(app, document_id, "ready").pod_bytes
    assert forecast.disk_bytes < pod_bytes < 1.1 * forecast.disk_bytes


def test_another_models_memory_is_kept_and_reading_again_is_asked_for(
    open_app: OpenApp, settings: Settings, tmp_path: Path
) -> None:
    app = open_app()
    document_id = paper.read_here(app, paper.text(tmp_path / "a.txt"))
    written = paper.blocks(settings.home)
    app.close()

    # The prompt is part of a reader's identity, so this is another reader.
    changed = settings.home.parent / "changed" / Path(settings.model).name
    shutil.copytree(settings.model, changed)
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = open_app(model=str(changed))
    other.start()
    assert paper.wait_for(other, document_id, "waiting").pod_bytes > 0
    other.library.cancel(document_id)
    assert paper.blocks(settings.home) == written
    other.library.read(document_id)
    assert paper.wait_for(other, document_id, "ready").pod_bytes > sum(map(len, written.values()))
    other.close()

    again = open_app()
    again.start()
    again.model.wait()
    assert stage(again, document_id) == "ready"
    again.library.delete(document_id)
    assert paper.blocks(settings.home) == {}


def test_ready_documents_are_not_read_again(app: App, turns: Turns, settings: Settings, document_id: str) -> None:
    turns.give_all()
    paper.wait_for(app, document_id, "ready")
    before = [path.stat().st_mtime_ns for path in sorted((settings.home / "pods").iterdir())]
    app.library.add(paper.text(settings.home.parent / "again.txt", PAGES), "again.txt")
    app.library.read(document_id)
    assert list(app.library.wait(document_id)) == []
    other = app.library.add(paper.text(settings.home.parent / "b.txt", 1), "b.txt")
    paper.wait_for(app, other, "ready")
    assert stage(app, document_id) == "ready"
    assert reading_states(settings) == ["ready", "ready"]
    after = [path.stat().st_mtime_ns for path in sorted((settings.home / "pods").iterdir())]
    assert set(before) <= set(after)


def reading_states(settings: Settings) -> list[str]:
    store = Store.open(Home(settings.home).database_url)
    states = [each.state for each in store.readings()]
    store.close()
    return states


def test_a_verb_that_crosses_a_deletion_says_so(
    app: App, turns: Turns, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> bool:
        raise NotStored("no reading")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_reading_state", gone)
        with pytest.raises(DocumentNotFound):
            app.library.pause(document_id)


def test_documents_are_found_by_name_and_by_the_start_of_their_id(open_app: OpenApp, tmp_path: Path) -> None:
    library: Library = open_app().library
    one = library.add(paper.text(tmp_path / "1", 1), "East wing.txt")
    two = library.add(paper.text(tmp_path / "2", 2), "West wing.txt")
    find = library.catalogue.find
    assert {find(name).id for name in (one, one[:12], "east wing", "East wing.txt", "EAST")} == {one}
    assert [entry.document_id for entry in library.catalogue.entries()] == [two, one]
    assert [entry.document_id for entry in library.catalogue.entries("west")] == [two]
    with pytest.raises(DocumentNotFound, match="2 documents match 'wing'") as caught:
        find("wing")
    assert one[:8] in caught.value.message and two[:8] in caught.value.message
    for nothing in ("north", "", " ", "'; DROP TABLE documents; --"):
        with pytest.raises(DocumentNotFound, match="No document is called"):
            find(nothing)


def test_the_sample_can_be_added(open_app: OpenApp, settings: Settings) -> None:
    library = open_app().library
    first, second = library.sample(), library.sample()
    assert first != second
    assert library.add(first, first.name) == library.add(second, second.name)
    assert not first.exists() and not second.exists()
    assert {path.name for path in settings.home.iterdir()} <= {
        "documents", "pods", "imports", "models", "locks", "uploads", "backups", "library.json", "reserve",
        "docpod.sqlite3", "docpod.sqlite3-shm", "docpod.sqlite3-wal",
    }  # fmt: skip


def test_a_page_that_is_not_there_has_no_picture(app: App, turns: Turns, document_id: str) -> None:
    for number in (0, -1, PAGES + 1):
        with pytest.raises(DocumentNotFound, match=f"no page {number}"):
            app.library.page_image(document_id, number)
