"""Lists: what is shown for words and tags, in which order, and what is read next."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import BadName, DocumentNotFound
from app.events import DocumentEntry, Progress
from app.listing import SORTS, listed, parted, tags_in
from app.main import App
from app.search import Search
from storage import Store, Viewer
from tests.app import paper
from tests.app.conftest import OpenApp, Turns

pytestmark = pytest.mark.usefixtures("in_this_process")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(name: str, *tags: str, num_bytes: int = 1, used: int = 0) -> DocumentEntry:
    made = DocumentEntry(name, name, f"{name}.pdf", 1, 0, num_bytes, 0, Progress(name, "ready"))
    return replace(made, tags=tags, used_at=NOON + timedelta(hours=used))


ENTRIES = [entry("Volume 10", "Tax", used=1), entry("annex", "tax", "old", num_bytes=9), entry("Volume 9", used=2)]


def names(search: str = "", sort: str = "added") -> list[str]:
    return [each.name for each in listed(ENTRIES, search, sort)]


def test_every_order_is_what_it_is_called() -> None:
    assert {sort: names(sort=sort) for sort in SORTS} == {
        "added": ["Volume 10", "annex", "Volume 9"],
        "name": ["annex", "Volume 9", "Volume 10"],
        "used": ["Volume 9", "Volume 10", "annex"],
        "size": ["annex", "Volume 10", "Volume 9"],
    }


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("#tax", ["Volume 10", "annex"]),
        ("#TAX #old", ["annex"]),
        ("volume #tax", ["Volume 10"]),
        ("#ta", []),
        ("# volume", []),
        ("volume", ["Volume 10", "Volume 9"]),
    ],
)
def test_tags_and_words_narrow_a_list(search: str, found: list[str]) -> None:
    assert names(search) == found


def test_tags_are_typed_in_any_way_and_kept_once() -> None:
    assert tags_in(" #Tax, 2024  tax\tзаём ") == ["tax", "2024", "заём"]
    assert tags_in(" , # ") == []
    assert parted("late #Tax fees") == (frozenset({"tax"}), "late fees")
    assert parted("two  words ") == (frozenset(), "two  words ")
    with pytest.raises(BadName, match="13 tags"):
        tags_in(" ".join(map(str, range(13))))
    with pytest.raises(BadName):
        tags_in("x" * 1000)


@pytest.fixture
def running(turns: Turns, open_app: OpenApp) -> Iterator[App]:
    app = open_app()
    app.start()
    yield app
    turns.give_all()
    app.close()


def queue(app: App) -> list[str]:
    return [each.entry.file_name for each in app.library.queue.waiting()]


def test_short_documents_are_read_first_unless_their_user_says_otherwise(
    running: App, turns: Turns, open_app: OpenApp, tmp_path: Path
) -> None:
    def added(name: str, pages: int) -> str:
        document_id = running.library.add(paper.text(tmp_path / name, pages), name)
        paper.wait_until(lambda: bool(running.library.catalogue.readings(document_id)), "a plan")
        return document_id

    ids = {"a": added("a", 24)}
    # It makes way for one that is much shorter, but not within a chunk.
    paper.wait_until(lambda: turns.begun == 1, "a chunk that has begun")
    ids |= {name: added(name, pages) for name, pages in {"b": 20, "c": 3, "d": 8}.items()}
    assert queue(running) == ["c", "d", "b", "a"]
    waiting = running.library.queue.waiting()
    assert waiting[0].entry.forecast and waiting[0].seconds == pytest.approx(waiting[0].entry.forecast.seconds)
    seconds = [each.seconds for each in waiting]
    assert seconds == sorted(seconds)
    running.library.queue.move(ids["a"], "first")
    assert queue(running) == ["a", "c", "d", "b"]
    running.library.queue.move(ids["b"], "up")
    assert queue(running) == ["a", "c", "b", "d"]
    running.library.queue.move(ids["a"], "down")
    running.library.queue.move(ids["b"], "up")
    running.library.queue.move(ids["d"], "down")
    assert queue(running) == ["c", "b", "a", "d"]
    turns.give_all()
    for each in ids.values():
        paper.wait_for(running, each, "ready")
    used = {running.library.catalogue.entry(each).used_at: name for name, each in ids.items()}
    assert used and queue(running) == []
    with pytest.raises(DocumentNotFound, match="does not wait"):
        running.library.queue.move(ids["a"], "first")


def test_what_was_put_first_is_read_first(running: App, turns: Turns, tmp_path: Path) -> None:
    first = running.library.add(paper.text(tmp_path / "first", 24), "first")
    paper.wait_until(lambda: turns.begun == 1, "a chunk that has begun")
    short = running.library.add(paper.text(tmp_path / "short", 16), "short")
    long = running.library.add(paper.text(tmp_path / "long", 23), "long")
    for each in (short, long):
        paper.wait_until(lambda each=each: bool(running.library.catalogue.readings(each)), "a plan")
    running.library.queue.move(long, "first")
    turns.give(8)
    paper.wait_until(lambda: running.library.catalogue.entry(long).progress.done > 0, "the one that was put first")
    assert running.library.catalogue.entry(short).progress.done == 0
    assert running.library.catalogue.entry(first).progress.stage == "queued"


def test_tags_and_the_order_outlive_a_restart_and_lead_a_search(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    app = open_app()
    one = app.library.add(paper.text(tmp_path / "1", 1), "b.txt")
    two = app.library.add(paper.text(tmp_path / "2", 2), "a.txt")
    for each in (one, two):
        list(app.library.ingest.parse(each))
    app.library.catalogue.tag(one, "#Rooms east")
    assert app.library.catalogue.sort == "added"
    app.library.catalogue.sort_by("name")
    app.library.catalogue.sort_by("nonsense")
    app.close()
    app = open_app()
    catalogue = app.library.catalogue
    assert (catalogue.sort, catalogue.entry(one).tags) == ("name", ("Rooms", "east"))
    assert [each.document_id for each in catalogue.entries(sort=catalogue.sort)] == [two, one]
    assert [each.document_id for each in catalogue.entries("#rooms")] == [one]
    assert [each.document_id for each in app.search.find("porter").documents] == [two, one]
    assert [each.document_id for each in app.search.find("#rooms porter").documents] == [one]
    assert app.search.find("#rooms").documents == ()
    # Visitors neither see nor search tags.
    visitors = Search(store.seen_by(Viewer("visitor", has_all=False, only=frozenset({one, two}))))
    assert {each.document_id for each in visitors.find("#none porter").documents} == {one, two}
    with pytest.raises(DocumentNotFound):
        catalogue.tag("gone", "x")
