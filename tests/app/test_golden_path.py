"""A document from the upload to the follow-up after a restart, all through the app, with a real if tiny model."""

import json
from pathlib import Path

import pytest

from app.events import Answer, Evidence, TextDelta
from app.main import App
from app.settings import Settings
from tests.app import paper
from tests.app.conftest import OpenApp

QUESTION = "What is the access code of room 3?"


@pytest.fixture
def document_id(app: App, tmp_path: Path) -> str:
    """A PDF that was uploaded and read in the background."""
    app.start()
    upload = paper.pdf(tmp_path / "upload.pdf", pages=8)
    document_id = app.library.add(upload, "East wing.pdf")
    assert not upload.exists()
    paper.wait_for(app, document_id, "ready")
    return document_id


def test_a_document_is_read_once_and_asked_for_ever(
    app: App, open_app: OpenApp, settings: Settings, document_id: str
) -> None:
    entry = app.library.catalogue.entry(document_id)
    assert (entry.title, entry.file_name, entry.pages) == ("Rooms of the east wing", "East wing.pdf", 8)
    assert entry.pages_without_text == 0
    assert entry.outline == tuple((1, f"Room {number}", number) for number in range(1, 9))
    assert entry.progress.done == entry.progress.total == entry.forecast.tokens
    assert entry.pod_bytes == sum(map(len, paper.blocks(settings.home).values()))
    assert app.library.page_image(document_id, 3)[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")

    events = list(app.questions.ask(document_id, QUESTION))
    evidence, *deltas, answer = events
    assert isinstance(evidence, Evidence) and isinstance(answer, Answer)
    assert all(isinstance(delta, TextDelta) for delta in deltas)
    assert "".join(delta.text for delta in deltas).strip() == answer.answer
    assert evidence.found and answer.found and not answer.stopped
    first = answer.citations[0]
    assert (first.mark, first.page, first.label) == (1, 3, "3")
    assert first.quote == "The access code of room 3 is 4111."
    assert len(first.boxes) == 1
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in first.boxes)
    assert answer.reused_tokens == entry.progress.total
    assert 0 < answer.first_token_seconds <= answer.seconds
    assert (answer.sections, answer.coverage, answer.recipe) == (tuple(range(entry.forecast.sections)), "", "exact")
    assert answer.reading_seconds > 0
    follow_up = paper.last(app.questions.ask(document_id, "And of room 2?", answer.conversation_id))
    assert follow_up.conversation_id == answer.conversation_id

    written = paper.blocks(settings.home)
    app.close()
    again = open_app()
    again.start()
    paper.wait_for(again, document_id, "ready")
    assert again.library.catalogue.entry(document_id).pod_bytes == entry.pod_bytes
    (conversation,) = again.questions.conversations(document_id)
    assert conversation.title == QUESTION
    first_turn, second_turn = again.questions.turns(conversation.conversation_id)
    assert (first_turn.question, first_turn.answer) == (QUESTION, answer)
    assert (second_turn.question, second_turn.answer) == ("And of room 2?", follow_up)

    once_more = paper.last(again.questions.ask(document_id, QUESTION))
    facts = ("answer", "citations", "sections", "reused_tokens", "recomputed_tokens")
    assert [getattr(once_more, fact) for fact in facts] == [getattr(answer, fact) for fact in facts]
    assert paper.blocks(settings.home) == written


def test_another_process_answers_from_the_same_memory(app: App, settings: Settings, document_id: str) -> None:
    here = paper.last(app.questions.ask(document_id, QUESTION))
    written = paper.blocks(settings.home)
    there = json.loads(paper.run(settings, "ask", document_id[:10], QUESTION, "--json").stdout)
    assert (there["answer"], there["found"]) == (here.answer, True)
    assert there["citations"][0]["quote"] == here.citations[0].quote
    assert there["reused_tokens"] == here.reused_tokens == app.library.catalogue.entry(document_id).progress.total
    assert there["recomputed_tokens"] == here.recomputed_tokens
    assert paper.blocks(settings.home) == written
