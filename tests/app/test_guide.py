"""Guides: made once while nobody is at work, and the same as what is asked for."""

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest

from app import whole_answer
from app.events import Answer
from app.main import App
from app.whole_answer import WholeAnswer
from engine.kvcache.quantized import AnyPod
from storage import Store
from tests.app import paper

pytestmark = pytest.mark.usefixtures("in_this_process")

PAGES = 8


@pytest.fixture
def document_id(read_document: str) -> str:
    """A document that is read."""
    return read_document


def ask(app: App, document_id: str, question: str) -> Answer:
    return paper.last(app.questions.ask(document_id, question))


def test_it_is_what_is_asked_for_and_there_at_once(
    app: App, document_id: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    assert app.library.guide(document_id) is None
    app.start()
    paper.wait_until(lambda: app.library.guide(document_id) is not None, "the guide")
    paper.wait_until(lambda: len(store.notes(document_id)) == 2, "the summary")
    monkeypatch.setattr(whole_answer, "main_points", lambda *_: pytest.fail("it was made again"))
    guide = app.library.guide(document_id)
    asked = ask(app, document_id, "Summarise it in five points")
    assert guide and guide.found and (guide.answer, guide.citations) == (asked.answer, asked.citations)
    assert len(ask(app, document_id, "Summarise this").citations) > len(guide.citations) == 5


def test_it_makes_way_before_every_page_and_ends_with_the_model(
    app: App, document_id: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    idle, waits = app.model.wait().loaded.idle, []

    def wait() -> bool:
        waits.append(1)
        return len(waits) != PAGES

    monkeypatch.setattr(idle, "wait", wait)
    app.start()
    assert app.library.guide(document_id) is None
    paper.wait_until(lambda: len(waits) >= PAGES, "the last page")
    paper.wait_until(lambda: not app.library._guides._at_hand, "its end")
    assert store.notes(document_id) == {}
    paper.wait_until(lambda: app.library.guide(document_id) is not None, "another attempt")


def test_a_strong_reader_writes_it_until_somebody_asks(
    app: App, document_id: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    loaded = app.model.wait().loaded
    loaded.heads = replace(loaded.heads, answers_from="sections")
    real, lengths = WholeAnswer._ask, list[int]()

    def interrupted(whole: WholeAnswer, pod: AnyPod, question: str, stop: threading.Event) -> str:
        """The first time somebody asks while it is written."""
        with loaded.idle.question() if not lengths else nullcontext():
            said = real(whole, pod, question, stop)
            lengths.append(len(said))
            # Nothing is kept of what was broken off.
            assert len(lengths) > 1 or (stop.is_set() and not store.notes(document_id))
            return said

    monkeypatch.setattr(WholeAnswer, "_ask", interrupted)
    app.start()
    assert app.library.guide(document_id) is None
    paper.wait_until(lambda: app.library.guide(document_id) is not None, "the guide")
    assert lengths[0] < lengths[1], "who asks need not wait for the end of it"
    paper.wait_until(lambda: not app.library._guides._at_hand, "the summary")
    monkeypatch.setattr(WholeAnswer, "_ask", lambda *_: pytest.fail("it was made again"))
    asked = ask(app, document_id, "Summarise it in five points")
    guide = app.library.guide(document_id)
    assert guide and not guide.weak and guide.answer == asked.answer


def test_one_that_went_meanwhile_has_none(app: App, document_id: str) -> None:
    assert app.library.guide(document_id) is None
    app.library.delete(document_id)
    app.start()
    paper.wait_until(lambda: not app.library._guides._at_hand, "the end")
