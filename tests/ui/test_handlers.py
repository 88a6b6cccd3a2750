"""Handlers with an app in memory: no browser, no server."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from tests.app.paper import wait_until
from tests.ui.fake_app import FakeApp
from ui import chat_panel, head_panel, library_panel, main, page_panel, presets_panel
from ui.access import acting
from ui.trouble import explain
from ui.view import POLLING, QUIET, RESTING, Open, Page, View


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> Iterator[FakeApp]:
    app = FakeApp(tmp_path / "home", read_seconds=10.0, word_seconds=0.0, clock=clock)
    with acting(app):
        yield app


@pytest.fixture
def page(app: FakeApp) -> Page:
    page = Page(main.PANELS)
    # What says what went wrong.
    for name in ("notices", "timer"):
        page.region(name, None)
    return page


@pytest.fixture
def document_id(app: FakeApp) -> str:
    sample = app.library.sample()
    return app.library.add(sample, sample.name)


def uploaded(folder: Path, name: str, data: bytes) -> dict[str, str]:
    path = folder / "uploads" / name / "stored"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return {"path": str(path), "orig_name": name}


def test_every_event_is_named_and_private(app: FakeApp) -> None:
    async def build() -> gr.Blocks:
        # Outside of a running loop Gradio makes one for its locks and never closes it.
        return main.build(app)

    events = [fn for fn in asyncio.run(build()).fns.values() if fn.fn is not None or fn.js]
    assert len(events) > 15
    names = [fn.api_name for fn in events]
    assert len(set(names)) == len(names)
    assert {fn.api_visibility for fn in events} == {"private"}


def test_what_leaves_a_conversation_ends_the_drawing_of_its_answer(app: FakeApp) -> None:
    async def build() -> gr.Blocks:
        return main.build(app)

    fns = asyncio.run(build()).fns.values()
    answering = {fn._id for fn in fns if fn.api_name in ("ask", "regenerate")}
    # Gradio binds what cancels as an event of its own beside the one that has the name.
    cancelling = [fn.targets for fn in fns if set(fn.cancels) == answering]
    names = {fn.api_name for fn in fns if fn.fn is not None and fn.targets in cancelling}
    assert names == {
        "open",
        "several",
        "delete",
        "delete_several",
        "conversation",
        "conversation_new",
        "conversation_delete",
        "conversation_undo",
        "conversation_copy",
    }


class Clipboard:
    """A panel as a further one would be, with a region of its own."""

    PANE = "page-pane"

    def build(self, page: Page) -> None:
        page.surface("clip")

    def bind(self, page: Page) -> None:
        page["clip"].click(lambda: "copied", None, page["clip"], api_name="clip", **QUIET)

    def live(self, app: FakeApp, at: Open) -> dict[str, str]:
        return {"clip": f"{len(at.found)} documents"}

    def opened(self, app: FakeApp, at: Open) -> View:
        return {"clipped": at.document_id}


def test_a_further_panel_is_a_module_and_its_name(
    app: FakeApp, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "PANELS", (*main.PANELS, Clipboard()))

    async def build() -> gr.Blocks:
        return main.build(app)

    assert "clip" in {fn.api_name for fn in asyncio.run(build()).fns.values()}
    page = Page(main.PANELS)
    view = page.opened(document_id, None)
    assert (view["clip"], view["clipped"]) == ("1 documents", document_id)
    assert page.after(document_id, document_id, "", "")["clip"] == "1 documents"
    first = library_panel.on_tick(page, document_id, "", "", "", {})
    assert first["clip"] == "1 documents"
    assert "clip" not in library_panel.on_tick(page, document_id, "", "", "", first["seen"])


def test_what_gradio_sends_again_at_the_end_of_a_stream_changes_nothing(page: Page) -> None:
    drawn, *_, again = page.stream([{"timer": RESTING}])
    assert drawn == page.values({"timer": RESTING}) and again == [gr.skip(), gr.skip()]


def test_a_view_of_a_region_that_is_not_there_is_a_bug(page: Page) -> None:
    shown = page.values({"timer": RESTING})
    assert shown == [gr.skip(), RESTING]
    # Gradio takes the value out of an update that it is given.
    shown[1].pop("value")
    assert page.values({"timer": RESTING})[1]["value"] == 5.0
    with pytest.raises(AssertionError, match="timre"):
        page.values({"timre": RESTING})
    with pytest.raises(AssertionError, match="two regions"):
        page.region("timer", None)


def test_an_upload_is_added_opened_and_leaves_nothing_behind(app: FakeApp, page: Page, tmp_path: Path) -> None:
    files = [
        uploaded(tmp_path, "A <b>report.pdf", b"%PDF-1.7 one"),
        uploaded(tmp_path, "..\\..\\evil.txt", b"some text"),
        uploaded(tmp_path, "photo.png", b"\x89PNG\0\0"),
        uploaded(tmp_path, "empty.pdf", b""),
        uploaded(tmp_path, "copy.txt", b"some text"),
    ]
    view = library_panel.on_upload(page, files, "", "", "")
    assert [entry.file_name for entry in app.library.catalogue.entries()] == ["evil.txt", "A <b>report.pdf"]
    assert view["document_id"] == app.library.catalogue.entries()[1].document_id
    assert "photo.png" in str(view["notices"])
    assert "neither a PDF nor text" in str(view["notices"])
    assert "empty.pdf" in str(view["notices"])
    assert "copy.txt</strong> It is in the library already, as “evil.txt”." in str(view["notices"])
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_during_an_answer_leaves_the_page_where_it_is(page: Page, tmp_path: Path, document_id: str) -> None:
    view = library_panel.on_upload(page, [uploaded(tmp_path, "b.pdf", b"%PDF b")], document_id, document_id, "")
    assert "document_id" not in view


def test_the_same_upload_twice_at_once_is_no_error(app: FakeApp, page: Page, tmp_path: Path) -> None:
    file = uploaded(tmp_path, "a.pdf", b"%PDF-1.7 a")
    view = library_panel.on_upload(page, [file, file], "", "", "")
    assert view["notices"] == ""
    assert len(app.library.catalogue.entries()) == 1


def test_the_buttons_of_a_document(page: Page, clock: Clock, document_id: str) -> None:
    def act(name: str) -> str:
        event = {"act": name, "document": document_id}
        view = library_panel.on_act(page, document_id, "", "", event)
        return str(view["documents"])

    clock.seconds = 5.0
    assert "Paused at page 49 of 98" in act("pause")
    assert "Reading page 49 of 98" in act("resume")
    assert "Reading was cancelled" in act("cancel")
    assert "Reading page" in act("read")


def test_a_wrong_password_is_said_and_the_right_one_reads(app: FakeApp, page: Page, tmp_path: Path) -> None:
    library_panel.on_upload(page, [uploaded(tmp_path, "a.pdf", b"%PDF /Encrypt")], "", "", "")
    document_id = app.library.catalogue.entries()[0].document_id

    def unlock(password: str) -> View:
        event = {"act": "unlock", "document": document_id, "password": password}
        return library_panel.on_act(page, document_id, "", "", event)

    assert "does not open" in str(page.guarded(lambda: unlock("wrong"))[0])
    assert "Reading" in str(unlock("open sesame")["documents"])


def test_deleting_the_open_document_closes_it_and_another_one_does_not(
    app: FakeApp, page: Page, document_id: str, tmp_path: Path
) -> None:
    library_panel.on_upload(page, [uploaded(tmp_path, "minutes.txt", b"minutes")], "", document_id, "")
    minutes = next(each.document_id for each in app.library.catalogue.entries() if each.document_id != document_id)
    kept = library_panel.on_delete(page, [minutes], document_id, "c", "")
    assert kept["document_id"] == document_id and minutes not in str(kept["documents"])
    view = library_panel.on_delete(page, [document_id], document_id, "c", "")
    assert view["document_id"] == ""
    assert "Try the sample" in str(view["history"])
    assert app.library.catalogue.entries() == []


def test_the_sample_is_read(page: Page) -> None:
    view = library_panel.on_act(page, "", "", "", {"act": "sample"})
    assert "lighthouse" in str(view["head"])


def test_the_timer_sends_changes_only_and_rests_at_the_end(page: Page, clock: Clock, document_id: str) -> None:
    clock.seconds = 1.0
    first = library_panel.on_tick(page, document_id, "", "", "", {})
    assert "Reading page 9 of 98" in str(first["documents"])
    again = library_panel.on_tick(page, document_id, "", "", "", first["seen"])
    assert again.keys() == {"seen", "timer"} and again["timer"] == POLLING
    clock.seconds = 11.0
    last = library_panel.on_tick(page, document_id, "", "", "", again["seen"])
    assert "1.9 GB memory" in str(last["documents"])
    assert last["timer"] == POLLING
    quiet = library_panel.on_tick(page, document_id, "", "", "", last["seen"])
    assert quiet.keys() == {"seen", "timer"} and quiet["timer"] == RESTING


def test_what_a_late_tick_showed_of_before_is_mended_by_the_next(page: Page, clock: Clock, document_id: str) -> None:
    """It left when nothing was open, and came back after the document had been opened."""
    clock.seconds = 11.0
    late = library_panel.on_tick(page, "", "", "", "", {})
    assert late["head"] == "" and late["timer"] == POLLING
    next_one = library_panel.on_tick(page, document_id, "", "", "", late["seen"])
    assert next_one.get("head")


def test_the_dial_changes_how_a_document_is_kept(page: Page, clock: Clock, document_id: str) -> None:
    def act(name: str, recipe: str) -> View:
        event = {"act": name, "document": document_id, "recipe": recipe}
        return presets_panel.on_act(page, document_id, "", "", event)

    clock.seconds = 11.0
    assert 'aria-pressed="true" title="exact"' in str(page.opened(document_id, "")["dial"])
    chosen = act("choose", "balanced")
    assert "Becoming balanced: page 0 of 98" in str(chosen["head"])
    assert "Becoming balanced" in str(chosen["documents"])
    assert "Until it is there, the exact memory answers." in str(chosen["dial"])
    assert chosen["timer"] == POLLING
    first = library_panel.on_tick(page, document_id, "", "", "", {})
    assert first["dial"] == chosen["dial"]
    clock.seconds = 15.0
    again = library_panel.on_tick(page, document_id, "", "", "", first["seen"])
    assert "dial" not in again and "head" in again
    clock.seconds = 22.0
    ready = library_panel.on_tick(page, document_id, "", "", "", again["seen"])
    assert "The exact memory is kept too, 1.9 GB." in str(ready["dial"])
    assert "kept too" not in str(act("drop", "exact")["dial"])


def test_a_recipe_that_is_refused_is_explained_under_the_dial(app: FakeApp, page: Page, document_id: str) -> None:
    event = {"act": "choose", "document": document_id, "recipe": "compact"}
    view = presets_panel.on_act(page, document_id, "", "", event)
    assert "no plan to share 35 %. The document stays as it is kept now." in str(view["dial"])
    assert "notices" not in view
    # Another tab deleted it meanwhile.
    app.library.delete(document_id)
    assert "not in the library" in str(page.guarded(lambda: presets_panel.on_act(page, document_id, "", "", event))[0])


def test_the_dial_of_another_document_leaves_the_open_one_alone(
    app: FakeApp, page: Page, document_id: str, tmp_path: Path
) -> None:
    library_panel.on_upload(page, [uploaded(tmp_path, "b.pdf", b"%PDF b")], document_id, document_id, "")
    other = app.library.catalogue.entries()[0].document_id
    event = {"act": "choose", "document": other, "recipe": "faithful"}
    view = presets_panel.on_act(page, document_id, "", "", event)
    assert view.keys() == {"documents", "timer"}
    assert app.library.catalogue.entry(other).recipe == "faithful"


def test_pages_appear_once_they_are_known(app: FakeApp, page: Page, document_id: str) -> None:
    """Even at the first look, and once only: whoever turned the page meanwhile keeps what he sees."""
    assert page.opened(document_id, None)["awaited"] == ""
    first = library_panel.on_tick(page, document_id, "", "", document_id, {})
    assert "data:image/png" in str(first["sheet"])
    assert "Risk factors" in str(first["outline"])
    assert app.library.catalogue.entry(document_id).title in str(first["history"])
    assert first["awaited"] == ""
    again = library_panel.on_tick(page, document_id, "", "", "", first["seen"])
    assert again.keys() == {"seen", "timer"}


def test_a_document_without_pages_yet_is_awaited(
    app: FakeApp, page: Page, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(app.library.catalogue.entry(document_id), pages=0)
    monkeypatch.setattr(app.library, "entry", lambda document_id: entry)
    monkeypatch.setattr(app.library, "entries", lambda *search, **sort: [entry])
    assert page.opened(document_id, None)["awaited"] == document_id
    view = library_panel.on_tick(page, document_id, "", "", document_id, {})
    assert not {"sheet", "awaited"} & view.keys()


def test_an_answer_grows_and_is_restored(
    app: FakeApp, page: Page, document_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_panel, "PACE_SECONDS", 0.0)
    app.chat.word_seconds = 0.01
    views = list(chat_panel.on_ask(page, document_id, "mine", "How many members?"))
    assert "How many members?" in str(views[0]["history"]) + str(views[0]["live"])
    assert views[0]["question"] == {**chat_panel.box(busy=True), "value": ""}
    sheets = [str(view["sheet"]) for view in views if "sheet" in view]
    assert "data:image/png" in sheets[0] and 'class="mark chosen"' in sheets[0]
    assert sum("117.6" in str(view.get("live")) for view in views) > 3
    assert views[-1]["live"] == ""
    assert "wider international availability." in str(views[-1]["history"])
    assert views[0]["conversation_id"] == "mine"
    restored = page.opened(document_id, "mine")
    assert restored["history"] == views[-1]["history"]
    assert restored["document_id"] == document_id
    assert 'class="mark chosen"' in str(restored["sheet"])


def test_an_answer_can_be_stopped_and_given_again(app: FakeApp, page: Page, document_id: str) -> None:
    app.chat.word_seconds = 0.05
    views = []
    for view in chat_panel.on_ask(page, document_id, "mine", "How many members?"):
        views.append(view)
        if "117.6" in str(view.get("live")):
            stopped = chat_panel.on_stop(page, document_id, "mine")
            assert "Stopped." in str(stopped["history"]) and stopped["live"] == ""
            assert stopped["question"] == chat_panel.box(busy=False)
    assert "Stopped." in str(views[-1]["history"])
    app.chat.word_seconds = 0.0
    again = list(chat_panel.on_again(page, document_id, "mine"))
    assert "Stopped." not in str(again[-1]["history"])
    assert "international" in str(again[-1]["history"])
    assert len(app.chat.turns("mine")) == 1


def test_a_browser_that_leaves_loses_nothing(app: FakeApp, page: Page, document_id: str) -> None:
    app.chat.word_seconds = 0.01
    stream = chat_panel.on_ask(page, document_id, "mine", "How many members?")
    next(stream)
    stream.close()
    wait_until(lambda: app.chat.turns("mine")[0].state == "done")
    assert "international" in str(page.opened(document_id, "mine")["history"])


def test_a_question_asked_early_waits_is_answered_and_revised(
    app: FakeApp, page: Page, clock: Clock, document_id: str
) -> None:
    views = list(chat_panel.on_ask(page, document_id, "mine", "How many members, early?"))
    assert "The answer follows as soon as these pages are read." in str(views[-1]["history"])
    assert "117.6 million" in str(views[-1]["history"]) and 'class="mark chosen"' in str(views[0]["sheet"])
    assert views[-1]["question"] == chat_panel.box(busy=False)

    def look(seen: View) -> View:
        return library_panel.on_tick(page, document_id, "mine", "", "", seen)

    seen = look(views[-1]["seen"])["seen"]
    clock.seconds = 5.0
    wait_until(lambda: app.chat.turns("mine")[0].state == "partial")
    view = look(seen)
    assert "So far from pages 1-49 of 98." in str(view["history"])
    assert view["timer"] == POLLING
    clock.seconds = 10.0
    wait_until(lambda: app.chat.turns("mine")[0].state == "done")
    assert "Checked all 98 pages." in str(look(view["seen"])["history"])


def test_a_question_to_a_document_that_is_not_read_offers_to_read_it(
    app: FakeApp, page: Page, document_id: str
) -> None:
    app.library.cancel(document_id)
    last = list(chat_panel.on_ask(page, document_id, "mine", "How many members, early?"))[-1]
    assert "The answer follows when the document is read." in str(last["history"])
    assert 'data-act="read"' in str(last["history"])
    stopped = chat_panel.on_stop(page, document_id, "mine")
    assert "Stopped." in str(stopped["history"]) and "117.6 million" in str(stopped["history"])


def test_what_is_not_found_shows_the_closest_passages_and_marks_of_no_other_question(
    page: Page, document_id: str
) -> None:
    views = list(chat_panel.on_ask(page, document_id, "mine", "Is there a unicorn?"))
    # What went wrong with the next question may stand there by then.
    assert "Answer complete" in views[-1]["status"] and "said" not in views[-1]
    assert "I looked through all 98 pages; the closest passages are shown." in str(views[-1]["history"])
    sheets = [str(view["sheet"]) for view in views if "sheet" in view]
    assert 'alt="Page 12 of' in sheets[-1]


@pytest.mark.parametrize(
    ("question", "words"), [("  ", "The question is empty."), ("a bug", "Something went wrong (id ")]
)
def test_a_failed_question_is_explained_and_comes_back(page: Page, document_id: str, question: str, words: str) -> None:
    last = list(chat_panel.on_ask(page, document_id, "mine", question))[-1]
    assert words in str(last["said"])
    assert "Traceback" not in str(last["said"])
    assert not last.keys() & page.live(page.place(document_id, "mine")).keys() - {"question"}, "a timer may redraw it"
    assert last["question"] == {**chat_panel.box(busy=False), "value": question}


def test_an_older_answer_cannot_be_asked_for_again_while_one_is_to_come(page: Page, document_id: str) -> None:
    list(chat_panel.on_ask(page, document_id, "mine", "How many members?"))
    last = list(chat_panel.on_ask(page, document_id, "mine", "And early?"))[-1]
    assert 'data-event="retry"' not in str(last["history"])
    (refused,) = chat_panel.on_again(page, document_id, "mine")
    assert "still to come" in str(refused["said"])
    assert len(page.app.chat.turns("mine")) == 2


def test_a_bug_is_logged_under_the_id_that_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    shown = explain(ValueError("a secret path"))
    assert "secret" not in shown.message + shown.hint
    bug_id = shown.message.split("(id ")[1].removesuffix(").")
    assert f"bug {bug_id}" in caplog.text
    assert "a secret path" in caplog.text


def test_regenerating_nothing_is_explained(page: Page, document_id: str) -> None:
    last = list(chat_panel.on_again(page, document_id, "unknown"))[-1]
    assert "Something went wrong" in str(last["said"])


def test_conversations_open_and_go(app: FakeApp, page: Page, document_id: str) -> None:
    for name in ("first", "second"):
        list(chat_panel.on_ask(page, document_id, name, f"The {name} question?"))
    assert "The first question?" in str(page.opened(document_id, "first")["history"])
    latest = page.opened(document_id, None)
    assert latest["conversation_id"] == "second"
    new = page.opened(document_id, "")
    assert "What would you like to know?" in str(new["history"])
    assert new["conversation_id"] not in ("", "first", "second")
    assert "The second question?" in str(head_panel.on_delete(page, document_id, "second", "first")["history"])
    assert "What would you like to know?" in str(head_panel.on_delete(page, document_id, "second", "second")["history"])


def test_a_question_that_is_quicker_than_its_new_conversation_stays(page: Page, document_id: str) -> None:
    """The browser has named the conversation: what the server draws of it later holds the question."""
    list(chat_panel.on_ask(page, document_id, "named", "The first question?"))
    assert "The first question?" in str(page.opened(document_id, "named")["history"])


def test_a_document_that_is_gone_opens_nothing(page: Page) -> None:
    view = page.opened("gone", "gone too")
    assert view["document_id"] == ""
    assert "Try the sample" in str(view["history"])


def test_turning_pages(app: FakeApp, page: Page, document_id: str) -> None:
    marks = '[[1,12,"12",[[0.1,0.2,0.3,0.4]]]]'
    chip = {"page": "12", "mark": "1", "citations": marks}
    assert 'class="mark chosen"' in str(page_panel.on_turn(app, document_id, chip)["sheet"])
    assert 'class="mark' not in str(page_panel.on_turn(app, document_id, {**chip, "page": "13"})["sheet"])
    for wild, shown in (("0", 1), ("100000", 98), ("x", 1), ("-4", 1), (None, 1), ("9" * 5000, 1), ("f-2", 44)):
        assert f'alt="Page {shown} of' in str(page_panel.on_turn(app, document_id, {"page": wild})["sheet"])
    assert "not in the library" in str(page_panel.on_turn(app, "gone", chip)["sheet"])


def test_a_loading_reader_is_said(tmp_path: Path, clock: Clock) -> None:
    app = FakeApp(tmp_path / "home", loading_seconds=5.0, clock=clock)
    page = Page(main.PANELS)
    sample = app.library.sample()
    document_id = app.library.add(sample, sample.name)
    with acting(app):
        first = next(iter(chat_panel.on_ask(page, document_id, "mine", "Why so early?")))
        assert "still loading" in str(first["status"])
        assert "is loading" in str(page.opened("", "")["reader"])


def test_what_was_found_opens(app: FakeApp, page: Page, document_id: str) -> None:
    conversation_id = app.chat.ask(document_id, "", "How many memberships?")
    wait_until(lambda: not app.chat.turns(conversation_id)[-1].is_open, "the answer")
    other = library_panel.on_open(page, document_id, "other", "memberships", {"document": document_id, "page": "12"})
    assert (other["conversation_id"], other["document_id"]) == ("other", document_id)
    assert 'class="mark chosen"' in str(other["sheet"])
    hit = {"document": document_id, "conversation": conversation_id, "turn": "1", "citations": ""}
    view = library_panel.on_open(page, "", "", "memberships", hit)
    assert "How many memberships?" in str(view["history"]) and view["conversation_id"] == conversation_id
    assert "<mark>memberships</mark>" in str(view["documents"])
