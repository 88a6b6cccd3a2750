"""Warming: what is opened is back from the disk before it is asked about, and nothing warm makes way for it."""

from collections.abc import Set

import pytest

from app.main import App
from app.warming import Warming
from storage import Store
from tests.app import paper
from tests.app.conftest import OpenApp


def sections(store: Store, document_id: str) -> list[int]:
    return [section.id for reading in store.readings(document_id) for section in store.sections(reading.id)]


def warm(app: App) -> Set[object]:
    return {*app.model.wait().loaded.tiers.keys[0]}


def test_an_opened_document_is_warm_before_its_first_question(
    open_app: OpenApp, read_document: str, store: Store
) -> None:
    app = open_app()
    app.start()
    assert not warm(app)
    app.chat.expect("unknown")
    app.chat.expect(read_document)
    paper.wait_until(lambda: warm(app) == {*sections(store, read_document)})
    assert len(warm(app)) > 1


def test_it_ends_where_there_is_no_more_room(open_app: OpenApp, read_document: str, store: Store) -> None:
    app = open_app()
    app.model.wait().loaded.tiers.device_limit = 1
    Warming(store, app.model).warm(read_document)
    assert warm(app) == {sections(store, read_document)[0]}


def test_a_damaged_section_ends_nothing(open_app: OpenApp, read_document: str, store: Store) -> None:
    app = open_app()
    first = store.blocks(sections(store, read_document)[0])[0]
    path = app.settings.home / "pods" / first.file_name
    path.write_bytes(path.read_bytes()[:-1])
    Warming(store, app.model).warm(read_document)
    assert {*sections(store, read_document)[1:]} <= warm(app)


def test_of_documents_that_are_clicked_through_the_last_is_warmed(
    open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[str] = []
    monkeypatch.setattr("app.warming._PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(Warming, "warm", lambda self, document_id: warmed.append(document_id))
    app = open_app()
    app.start()
    for document_id in ("first", "second", "third"):
        app.chat.expect(document_id)
    paper.wait_until(lambda: bool(warmed))
    assert warmed == ["third"]
