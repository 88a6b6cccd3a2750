"""The chat: questions that are asked at any moment, stored before they are shown, and never lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import Busy, DocumentNotFound, QuestionRejected
from app.events import Turn
from app.main import App
from app.section_answer import SectionAnswer
from storage import Store
from tests.app import paper
from tests.app.conftest import OpenApp, Turns

pytestmark = pytest.mark.usefixtures("in_this_process")

PAGES = 8
QUESTION = "What is the access code of room 3?"
LATE = "What is the access code of room 8?"


@pytest.fixture
def document_id(app: App, read_document: str) -> str:
    """A document that is read, with a model to answer."""
    app.model.wait()
    return read_document


@pytest.fixture
def running(turns: Turns, open_app: OpenApp) -> Iterator[App]:
    """A running app that reads a chunk whenever the test gives a turn."""
    app = open_app()
    app.start()
    app.model.wait()
    yield app
    turns.give_all()
    app.close()


def the_turn(app: App, conversation_id: str) -> Turn:
    (turn,) = app.chat.turns(conversation_id)
    return turn


def wait_for_state(app: App, conversation_id: str, *states: str) -> Turn:
    paper.wait_until(lambda: the_turn(app, conversation_id).state in states, " or ".join(states))
    return the_turn(app, conversation_id)


def wait_for_hits(app: App, conversation_id: str) -> Turn:
    """The page that answers, found by its words; before it is parsed there are others with some of them."""

    def hit() -> bool:
        return any(each.page == 3 for each in the_turn(app, conversation_id).answer.citations[:1])

    paper.wait_until(hit, "hits")
    return the_turn(app, conversation_id)


def give_until(app: App, turns: Turns, conversation_id: str, *states: str) -> Turn:
    """Read on, chunk by chunk, until the answer has got so far; after each it is looked whether it can begin."""

    def reached() -> bool:
        app.chat.look()
        state = the_turn(app, conversation_id).state
        if state in ("waiting", "partial") and state not in states:
            turns.give_next()
        return state in states

    paper.wait_until(reached, " or ".join(states))
    return the_turn(app, conversation_id)


def test_asked_the_moment_a_file_is_added_it_waits_is_answered_and_revised(
    running: App, turns: Turns, source: Path
) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    wait_for_hits(running, conversation_id)
    turn = the_turn(running, conversation_id)
    assert (turn.state, turn.question, turn.answer.citations[0].page) == ("waiting", QUESTION, 3)
    assert str(paper.code(3)) in turn.answer.citations[0].quote and turn.answer.citations[0].boxes
    assert running.library.catalogue.entry(document_id).progress.stage != "ready"
    turn = give_until(running, turns, conversation_id, "partial")
    assert turn.answer.found and turn.answer.citations[0].page == 3
    assert turn.answer.coverage and not turn.answer.checked_pages
    message = turn.answer.message_id
    turns.give_all()
    turn = wait_for_state(running, conversation_id, "done")
    assert (turn.answer.message_id, turn.answer.coverage, turn.answer.checked_pages) == (message, "", PAGES)
    assert turn.answer.citations[0].page == 3


def test_what_its_words_point_to_is_read_before_it_is_answered(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", LATE)
    turn = give_until(running, turns, conversation_id, "partial", "done")
    assert turn.answer.found and turn.answer.citations[0].page == PAGES


def test_a_question_whose_words_stand_nowhere_gets_its_answer_too(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", "Zeppelin?")
    turns.give_all()
    turn = wait_for_state(running, conversation_id, "done")
    assert not turn.answer.found and turn.answer.coverage == ""


def test_an_edited_question_is_answered_in_a_copy_and_both_are_kept(running: App, turns: Turns, source: Path) -> None:
    turns.give_all()
    document_id = running.library.add(source, "a.txt")
    first = running.chat.ask(document_id, "", QUESTION)
    paper.wait_until(lambda: not running.chat.turns(first)[-1].is_open)
    running.chat.ask(document_id, first, LATE)
    paper.wait_until(lambda: not running.chat.turns(first)[-1].is_open)
    before = running.chat.turns(first)
    late = before[1].answer.message_id
    for wrong, error in (
        ((document_id, first, "  ", late), QuestionRejected),
        ((document_id, first, "Why?", 99), DocumentNotFound),
    ):
        with pytest.raises(error):
            running.chat.ask(*wrong)
    assert len(running.questions.conversations(document_id)) == 1
    edited = running.chat.ask(document_id, first, "What is the access code of room 5?", late)
    paper.wait_until(lambda: not running.chat.turns(edited)[-1].is_open)
    assert running.chat.turns(first) == before
    kept, asked = running.chat.turns(edited)
    assert (kept.question, kept.answer.citations) == (QUESTION, before[0].answer.citations)
    assert asked.answer.citations[0].page == 5
    for each in running.questions.conversations(document_id):
        assert each.versions == (first, edited)
    alone = running.chat.ask(document_id, first, "What is the access code of room 6?", before[0].answer.message_id)
    assert [turn.question for turn in running.chat.turns(alone)] == ["What is the access code of room 6?"]


def test_it_is_answered_twice_at_most(
    running: App, turns: Turns, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    answer = SectionAnswer.answer
    monkeypatch.setattr(SectionAnswer, "answer", lambda self, stopped: given.append("one") or answer(self, stopped))
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    give_until(running, turns, conversation_id, "done")
    assert len(given) == 2


def test_a_restart_keeps_a_waiting_question(running: App, turns: Turns, open_app: OpenApp, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    wait_for_hits(running, conversation_id)
    turns.give(2)
    closing = threading.Thread(target=running.close)
    closing.start()
    turns.give(2)
    closing.join()
    again = open_app()
    turn = the_turn(again, conversation_id)
    assert turn.state == "waiting" and turn.answer.citations[0].page == 3
    turns.give_all()
    again.start()
    assert wait_for_state(again, conversation_id, "done").answer.citations[0].page == 3


def test_a_restart_revises_what_was_answered_from_a_part(
    running: App, turns: Turns, open_app: OpenApp, source: Path
) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    give_until(running, turns, conversation_id, "partial")
    closing = threading.Thread(target=running.close)
    closing.start()
    turns.give(1)
    closing.join()
    turns.give_all()
    again = open_app()
    again.start()
    assert wait_for_state(again, conversation_id, "done").answer.checked_pages == PAGES


def test_stop_ends_a_waiting_question_at_once_and_keeps_its_hits(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    wait_for_hits(running, conversation_id)
    running.chat.stop(conversation_id)
    turn = the_turn(running, conversation_id)
    assert (turn.state, turn.answer.stopped, turn.answer.citations[0].page) == ("stopped", True, 3)
    turns.give_all()
    paper.wait_for(running, document_id, "ready")
    assert the_turn(running, conversation_id) == turn


def test_stop_keeps_an_answer_from_a_part_as_it_is(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    partial = give_until(running, turns, conversation_id, "partial").answer
    running.chat.stop(conversation_id)
    turns.give_all()
    paper.wait_for(running, document_id, "ready")
    turn = the_turn(running, conversation_id)
    assert turn.state == "stopped"
    assert (turn.answer.answer, turn.answer.citations) == (partial.answer, partial.citations)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Answers halt behind their evidence until the second event is set; the first says that one has come there."""
    there, on = threading.Event(), threading.Event()
    events = SectionAnswer.events

    def halting(self: SectionAnswer, stop: threading.Event) -> Iterator[object]:
        for event in events(self, stop):
            yield event
            there.set()
            on.wait()

    monkeypatch.setattr(SectionAnswer, "events", halting)
    yield there, on
    on.set()


Held = tuple[threading.Event, threading.Event]


def test_stop_does_not_wait_for_the_model(app: App, document_id: str, held: Held) -> None:
    there, on = held
    conversation_id = app.chat.ask(document_id, "", QUESTION)
    there.wait()
    assert the_turn(app, conversation_id).state == "answering"
    app.chat.stop(conversation_id)
    turn = the_turn(app, conversation_id)
    assert turn.state == "stopped" and turn.answer.citations[0].page == 3
    on.set()
    app.close()
    assert the_turn(app, conversation_id) == turn


def test_an_answer_is_not_asked_for_again_while_one_is_given(app: App, document_id: str, held: Held) -> None:
    there, on = held
    conversation_id = app.chat.ask(document_id, "", QUESTION)
    there.wait()
    with pytest.raises(Busy):
        app.chat.again(conversation_id)
    on.set()
    wait_for_state(app, conversation_id, "done")
    app.chat.again(conversation_id)
    turn = wait_for_state(app, conversation_id, "done")
    assert turn.question == QUESTION and turn.answer.citations[0].page == 3


def test_an_answer_that_is_stopped_before_a_word_when_given_again_leaves_the_one_before(
    app: App, document_id: str, held: Held
) -> None:
    there, on = held
    on.set()
    conversation_id = app.chat.ask(document_id, "", QUESTION)
    before = wait_for_state(app, conversation_id, "done")
    on.clear()
    there.clear()
    app.chat.again(conversation_id)
    there.wait()
    app.chat.stop(conversation_id)
    assert the_turn(app, conversation_id) == before
    on.set()


def test_reading_makes_way_for_a_question_until_its_end(
    running: App, turns: Turns, source: Path, tmp_path: Path, held: Held
) -> None:
    there, on = held
    turns.give(1_000)
    document_id = running.library.add(source, "a.txt")
    paper.wait_for(running, document_id, "ready")
    turns.take_all()
    other = running.library.add(paper.text(tmp_path / "b.txt", PAGES + 1), "b.txt")
    before = turns.begun
    paper.wait_until(lambda: turns.begun == before + 1, "a chunk that has begun")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    there.wait()
    turns.give_all()
    paper.wait_until(lambda: running.library.catalogue.entry(other).progress.done > 0, "the end of that chunk")
    assert not threading.Event().wait(0.3) and turns.begun == before + 1
    on.set()
    wait_for_state(running, conversation_id, "done")
    paper.wait_for(running, other, "ready")


def test_a_document_that_is_asked_is_read_before_a_shorter_one(
    running: App, turns: Turns, source: Path, tmp_path: Path
) -> None:
    first = running.library.add(paper.text(tmp_path / "first.txt", 2 * PAGES), "first.txt")
    turns.give()
    paper.wait_until(lambda: turns.begun == 2, "a chunk that has begun")
    document_id = running.library.add(source, "a.txt")
    short = running.library.add(paper.text(tmp_path / "short.txt", 1), "short.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    paper.wait_until(lambda: all(running.library.catalogue.readings(each) for each in (document_id, short)), "plans")
    give_until(running, turns, conversation_id, "partial")
    stages = {each: running.library.catalogue.entry(each).progress for each in (first, short)}
    assert stages[short].done == 0 and stages[first].stage in ("queued", "paused")


def test_deleting_a_document_or_a_conversation_ends_what_waits(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    first = running.chat.ask(document_id, "", QUESTION)
    second = running.chat.ask(document_id, "", LATE)
    running.chat.delete(first)
    assert [each.conversation_id for each in running.questions.conversations(document_id)] == [second]
    turns.give_all()
    running.library.delete(document_id)
    assert running.chat.turns(second) == []
    assert list(running.chat.follow(second)) == []


def test_several_questions_of_one_conversation_wait_in_order(running: App, turns: Turns, source: Path) -> None:
    document_id = running.library.add(source, "a.txt")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    assert running.chat.ask(document_id, conversation_id, LATE) == conversation_id
    turns.give_all()
    paper.wait_until(lambda: all(turn.state == "done" for turn in running.chat.turns(conversation_id)), "the end")
    given = running.chat.turns(conversation_id)
    assert [(turn.question, turn.answer.citations[0].page) for turn in given] == [(QUESTION, 3), (LATE, PAGES)]


def test_a_conversation_may_have_an_id_before_it_has_a_question(app: App, document_id: str, tmp_path: Path) -> None:
    assert app.chat.turns("fresh") == []
    assert app.chat.ask(document_id, "fresh", QUESTION) == "fresh"
    wait_for_state(app, "fresh", "done")
    other = paper.read_here(app, paper.text(tmp_path / "b.txt", 2))
    with pytest.raises(DocumentNotFound):
        app.chat.ask(other, "fresh", QUESTION)


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_no_question_is_none(app: App, document_id: str, question: str) -> None:
    with pytest.raises(QuestionRejected):
        app.chat.ask(document_id, "", question)
    assert app.questions.conversations(document_id) == []


def test_what_cannot_be_answered_stays_with_its_reason(app: App, document_id: str) -> None:
    conversation_id = app.chat.ask(document_id, "", "why? " * 4_000)
    turn = wait_for_state(app, conversation_id, "failed")
    assert "tokens" in turn.message and turn.hint
    app.chat.again(conversation_id)
    assert wait_for_state(app, conversation_id, "failed").message == turn.message


def test_without_a_model_the_question_stays_with_the_reason(open_app: OpenApp, tmp_path: Path) -> None:
    app = open_app(model=str(tmp_path / "nowhere"))
    app.start()
    document_id = app.library.add(paper.text(tmp_path / "a.txt"), "a.txt")
    conversation_id = app.chat.ask(document_id, "", QUESTION)
    turn = wait_for_state(app, conversation_id, "failed")
    assert "nowhere" in turn.message and "--model" in turn.hint


def test_a_document_that_cannot_be_parsed_says_so_in_the_conversation(running: App, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pdf"
    torn.write_bytes(b"%PDF-1.7 torn")
    document_id = running.library.add(torn, "torn.pdf")
    conversation_id = running.chat.ask(document_id, "", QUESTION)
    assert wait_for_state(running, conversation_id, "failed").message


def test_words_are_found_on_pages_that_are_known_while_others_are_parsed(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr("app.intake._DRAFT_SECONDS", 0.0)
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 6), "a.txt", move=False)
    work = app.library.ingest.parse(document_id)
    for _ in range(3):
        next(work)
    found = {number for number, _ in store.search_pages(document_id, ["room"], 10)}
    assert {1, 2} <= found and 5 not in found
    list(work)
    assert {number for number, _ in store.search_pages(document_id, ["room"], 10)} == set(range(1, 7))
    assert len(store.pages(document_id)) == 6


def test_what_is_asked_of_a_page_or_the_document_is_not_looked_for_by_its_words(app: App, tmp_path: Path) -> None:
    document_id = app.library.add(paper.text(tmp_path / "a.txt", 6), "a.txt", move=False)
    list(app.library.ingest.parse(document_id))
    for question, are_there in (
        ("What is said of room 3?", True),
        ("What is on page 3?", False),
        ("Any pages?", False),
    ):
        conversation_id = app.chat.ask(document_id, "", question)
        assert bool(the_turn(app, conversation_id).answer.citations) is are_there


def test_following_ends_with_the_answer(app: App, document_id: str) -> None:
    conversation_id = app.chat.ask(document_id, "", QUESTION)
    states = [turn.state for turn in app.chat.follow(conversation_id)]
    assert set(states) <= {"waiting", "looking", "answering", "done"}
    assert the_turn(app, conversation_id).state == "done"
