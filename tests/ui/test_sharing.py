"""Sharing by itself: who comes in, what he has of the app, and how it ends. Without a server."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import run_app
from app.errors import DocumentNotFound, NotAllowed, NotShared
from app.roles import VISITOR, Seen
from app.sharing import ATTEMPTS_A_MINUTE, QUESTIONS_A_MINUTE, Sharing, Terms
from tests.app.paper import wait_until
from tests.ui.fake_app import FakeApp

HOST = "name.example"


class Clock:
    """Time that passes when told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class FakeRoad:
    """A way that is open or not."""

    label = "A link"
    is_open = False

    def open(self) -> str:
        self.is_open = True
        return f"https://{HOST}"

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def road() -> FakeRoad:
    return FakeRoad()


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    app = FakeApp(tmp_path / "home", read_seconds=0.001, word_seconds=0.0)
    for name in ("shared", "private"):
        path = tmp_path / name
        path.write_bytes(b"%PDF " + name.encode())
        app.library.add(path, f"{name}.pdf")
    return app


@pytest.fixture
def sharing(app: FakeApp, clock: Clock, road: FakeRoad) -> Sharing:
    sharing = Sharing(app.seen_by, clock)
    sharing.roads["link"] = road
    yield sharing
    sharing.stop()


@pytest.fixture
def private(app: FakeApp) -> str:
    return next(key for key, each in app.library.documents.items() if each.title == "private")


@pytest.fixture
def shared(app: FakeApp) -> str:
    return next(key for key, each in app.library.documents.items() if each.title == "shared")


def key_of(link: str) -> str:
    return link.partition("?key=")[2]


def visit(sharing: Sharing, name: str = "Ann") -> Seen:
    cookie = sharing.admit(key_of(sharing.invite()), "", name)
    visitor = sharing.visitor(HOST, cookie)
    assert visitor is not None
    return visitor.app


def test_a_link_lets_one_person_in(sharing: Sharing, shared: str, road: FakeRoad) -> None:
    sharing.start(Terms(frozenset({shared})))
    assert road.is_open
    link = sharing.state().link
    assert link.startswith(f"https://{HOST}/?key=")
    assert not sharing.state().link_is_used
    cookie = sharing.admit(key_of(link), "", "  Ann \n Lee ")
    assert sharing.visitor(HOST, cookie).name == "Ann Lee"
    assert sharing.state().link_is_used
    with pytest.raises(NotAllowed, match="was used"):
        sharing.admit(key_of(link), "", "Eve")
    for wrong in ("", "x", key_of(link)[:-1], cookie):
        with pytest.raises(NotAllowed):
            sharing.admit(wrong, "", "Eve")
        assert sharing.visitor(HOST, wrong) is None or wrong == cookie
    assert [(name, here) for _, name, here in sharing.state().visitors] == [("Ann Lee", True)]


def test_a_password_lets_in_whoever_has_it_and_is_not_kept(sharing: Sharing, shared: str) -> None:
    sharing.start(Terms(frozenset({shared}), password="open sesame"))
    state = sharing.state()
    assert (state.by_password, state.link, sharing.needs_password()) == (True, f"https://{HOST}", True)
    assert "open sesame" not in repr(vars(sharing)) + repr(vars(sharing._share))
    assert sharing.visitor(HOST, sharing.admit("", "open sesame", "")).name == "Visitor 1"
    for password in ("", "Open sesame", "open sesame "):
        with pytest.raises(NotAllowed, match="not the password"):
            sharing.admit("", password, "Eve")


def test_guessing_is_slowed_down(sharing: Sharing, shared: str, clock: Clock) -> None:
    sharing.start(Terms(frozenset({shared})))
    link = sharing.invite()
    for _ in range(ATTEMPTS_A_MINUTE):
        with pytest.raises(NotAllowed, match="was used"):
            sharing.admit("guess", "", "Eve")
    with pytest.raises(NotAllowed, match="Too many attempts"):
        sharing.admit(key_of(link), "", "Ann")
    clock.seconds += 60.0
    assert sharing.admit(key_of(link), "", "Ann")


def test_a_visitor_has_the_shared_documents_and_nothing_else(
    app: FakeApp, sharing: Sharing, shared: str, private: str
) -> None:
    at_home = app.chat.ask(shared, "", "Asked at home?")
    sharing.start(Terms(frozenset({shared})))
    view = visit(sharing)
    assert [entry.document_id for entry in view.library.catalogue.entries()] == [shared]
    assert view.library.catalogue.entries("private") == []
    assert view.library.catalogue.entry(shared).forecast is None
    with pytest.raises(NotAllowed):
        view.library.add_attachment(shared, 1)
    assert view.library.page_image(shared, 1).startswith(b"\x89PNG")
    assert view.library.presets(shared) is None
    assert view.questions.conversations(shared) == view.questions.conversations(private) == []
    assert (view.status().why, view.status().better) == ("", "")
    for call in (
        lambda: view.library.catalogue.entry(private),
        lambda: view.library.catalogue.labels(private),
        lambda: view.library.page_image(private, 1),
        lambda: view.library.original(private),
        lambda: view.library.suggested(private),
        lambda: view.library.guide(private),
        lambda: view.library.presets(private),
        lambda: view.chat.ask(private, "", "Why?"),
        lambda: view.chat.expect(private),
    ):
        with pytest.raises(DocumentNotFound, match="not in the library"):
            call()
    for verb in (view.chat.again, view.chat.stop, view.chat.delete, lambda at: view.chat.ask(shared, at, "Why?")):
        with pytest.raises(DocumentNotFound, match="no such conversation"):
            verb(at_home)
    assert view.chat.turns(at_home) == list(view.chat.follow(at_home)) == []
    assert len(app.chat.turns(at_home)) == 1


@pytest.mark.parametrize("part", ["", "library", "library.catalogue", "questions", "chat", "search"])
def test_every_other_verb_of_the_app_is_refused(app: FakeApp, sharing: Sharing, shared: str, part: str) -> None:
    """Of the real classes, so that a new verb is tried too; what a visitor has is named here."""
    from app.catalogue import Catalogue
    from app.chat import Chat
    from app.library import Library
    from app.main import App
    from app.questions import Questions
    from app.search import Search

    known = {
        "": App,
        "library": Library,
        "library.catalogue": Catalogue,
        "questions": Questions,
        "chat": Chat,
        "search": Search,
    }
    whole = known[part]
    his = {
        "": {"library", "questions", "chat", "search", "export", "status", "may_ask"},
        "library": {"catalogue", "original", "page_image", "presets", "suggested", "guide"},
        "library.catalogue": {"entries", "entry", "labels", "sort", "document", "find"},
        "questions": {"conversations", "turns", "ask", "answer", "regenerate"},
        "chat": {
            "expect",
            "open",
            "documents",
            "ask",
            "again",
            "stop",
            "delete",
            "bring_back",
            "rename",
            "turns",
            "follow",
            "title",
            "copy",
        },
        "search": {"find", "cited"},
    }[part]
    sharing.start(Terms(frozenset({shared})))
    view: object = visit(sharing)
    for name in filter(None, part.split(".")):
        view = getattr(view, name)
    verbs = {name for name in vars(whole) if not name.startswith("_")} | {"settings", "sharing", "model", "intake"}
    verbs -= {"may_ask", "role", "name", "signs_out"}
    for name in verbs - his:
        with pytest.raises(NotAllowed, match="not shared with you"):
            getattr(view, name)
    named = (each.rpartition(".") for each in VISITOR)
    assert his - {"may_ask", "status"} == {verb for of, _, verb in named if of == part}


def test_conversations_of_visitors_are_their_own_and_end_with_the_share(
    app: FakeApp, sharing: Sharing, shared: str
) -> None:
    sharing.start(Terms(frozenset({shared})))
    ann, ben = visit(sharing, "Ann"), visit(sharing, "Ben")
    asked = ann.chat.ask(shared, "", "Whose is this?")
    assert [each.title for each in ann.questions.conversations(shared)] == ["Whose is this?"]
    assert ben.questions.conversations(shared) == app.questions.conversations(shared) == []
    assert [len(view.chat.turns(asked)) for view in (ann, ben)] == [1, 0]
    sharing.stop()
    assert app.chat.known == {}


def test_reading_only_and_too_many_questions(sharing: Sharing, shared: str, clock: Clock) -> None:
    sharing.start(Terms(frozenset({shared}), may_ask=False))
    with pytest.raises(NotAllowed, match="reading only"):
        visit(sharing).chat.ask(shared, "", "Why?")
    sharing.start(Terms(frozenset({shared})))
    chat = visit(sharing).chat
    asked = [chat.ask(shared, "", "Why?") for _ in range(QUESTIONS_A_MINUTE)]
    wait_until(lambda: not any(turn.is_open for turn in chat.turns(asked[0])))
    for verb in (lambda: chat.ask(shared, "", "Why?"), lambda: chat.again(asked[0])):
        with pytest.raises(NotAllowed, match="Too many questions"):
            verb()
    clock.seconds += 60.0 / QUESTIONS_A_MINUTE
    chat.again(asked[0])


ENDS: dict[str, Callable[[Sharing, Clock], None]] = {
    "stopped": lambda sharing, clock: sharing.stop(),
    "expired": lambda sharing, clock: setattr(clock, "seconds", 60.0),
    "shown out": lambda sharing, clock: sharing.remove(sharing.state().visitors[0][0]),
    "started anew": lambda sharing, clock: sharing.start(sharing.state().terms),
}


@pytest.mark.parametrize("end", ENDS)
def test_when_it_ends_nobody_is_in(app: FakeApp, sharing: Sharing, shared: str, clock: Clock, end: str) -> None:
    sharing.start(Terms(frozenset({shared}), seconds=60.0))
    link = sharing.state().link
    cookie = sharing.admit(key_of(link), "", "Ann")
    chat = sharing.visitor(HOST, cookie).app.chat
    chat.ask(shared, "", "Why?")
    ENDS[end](sharing, clock)
    assert sharing.visitor(HOST, cookie) is None
    with pytest.raises(NotAllowed):
        sharing.admit(key_of(link), "", "Ann")
    if end != "expired":
        assert app.chat.known == {}
        with pytest.raises(NotAllowed):
            chat.ask(shared, "", "Why?")
    assert sharing.is_here(HOST) == (end in ("shown out", "started anew"))
    assert (sharing.state() is None) == (end in ("stopped", "expired"))


def test_the_end_of_its_time_closes_the_road(sharing: Sharing, shared: str, road: FakeRoad) -> None:
    sharing.start(Terms(frozenset({shared}), seconds=0.01))
    sharing._timer.join(30.0)
    assert not road.is_open


def test_only_the_shared_address_leads_in(sharing: Sharing, shared: str) -> None:
    sharing.start(Terms(frozenset({shared})))
    cookie = sharing.admit(key_of(sharing.state().link), "", "Ann")
    for host in ("127.0.0.1:7860", "other.example", f"{HOST}:80", f"x.{HOST}", ""):
        assert sharing.visitor(host, cookie) is None
    assert sharing.visitor(HOST.upper(), cookie) is not None


def test_what_cannot_be_shared_is_said(sharing: Sharing, shared: str, road: FakeRoad) -> None:
    with pytest.raises(NotShared, match="no document to share"):
        sharing.start(Terms(frozenset()))
    with pytest.raises(NotShared, match="does not listen"):
        sharing.start(Terms(frozenset({shared}), "network"))
    with pytest.raises(NotShared, match="Nothing is shared"):
        sharing.invite()

    def offline() -> str:
        raise NotShared("The link could not be opened.", "Connect first.")

    road.open = offline
    with pytest.raises(NotShared, match="Connect first"):
        sharing.start(Terms(frozenset({shared})))
    assert sharing.state() is None


def test_a_stop_while_the_way_is_being_opened_holds(sharing: Sharing, shared: str, road: FakeRoad) -> None:
    opened = road.open

    def open_slowly() -> str:
        address = opened()
        sharing.stop()
        return address

    road.open = open_slowly
    with pytest.raises(NotShared, match="was stopped"):
        sharing.start(Terms(frozenset({shared})))
    assert sharing.state() is None and not road.is_open


def test_sharing_from_the_start_says_the_link_or_why_there_is_none(app: FakeApp, road: FakeRoad) -> None:
    app.sharing.roads["link"] = road
    said = run_app.share_library(app)
    assert f"https://{HOST}/?key=" in said
    assert app.sharing.state().terms.documents == frozenset(app.library.documents)
    one, *_ = app.library.documents
    app.settings = replace(app.settings, share_only=one[:9])
    assert f"https://{HOST}/?key=" in run_app.share_library(app)
    assert app.sharing.state().terms.documents == {one}
    for wrong in (f"{one[:9]},", "no such thing"):
        app.settings = replace(app.settings, share_only=wrong)
        assert "?key=" not in run_app.share_library(app)
    app.settings = replace(app.settings, share_only="")
    app.sharing.stop()
    app.library.documents.clear()
    assert run_app.share_library(app) == "There is no document to share. Choose at least one on the page."


def test_a_visitor_searches_what_is_shared_and_his_own(
    app: FakeApp, sharing: Sharing, shared: str, private: str
) -> None:
    sharing.start(Terms(frozenset({shared})))
    ann, ben = visit(sharing), visit(sharing, "Ben")
    app.chat.ask(private, "", "How many memberships has the private one?")
    app.chat.ask(shared, "", "How many memberships has its owner?")
    mine = ann.chat.ask(shared, "", "How many memberships has the shared one?")
    found = ann.search.find("memberships")
    assert [each.document_id for each in found.documents] == [shared]
    assert [each.conversation_id for each in found.turns] == [mine]
    assert ben.search.find("memberships").turns == ()
    assert ann.search.cited(shared, 12, "memberships") is not None
    with pytest.raises(DocumentNotFound, match="not in the library"):
        ann.search.cited(private, 12, "memberships")


def test_a_visitor_asks_several_of_what_is_shared(app: FakeApp, sharing: Sharing, shared: str, private: str) -> None:
    path = app.settings.home / "third"
    path.write_bytes(b"%PDF third")
    third = app.library.add(path, "third.pdf")
    sharing.start(Terms(frozenset({shared, third})))
    ann, ben = visit(sharing), visit(sharing, "Ben")
    for chosen in ([shared, private], [private], [private, shared]):
        with pytest.raises(DocumentNotFound, match="not in the library"):
            ann.chat.open(chosen)
    conversation_id = ann.chat.open([shared, third])
    assert ann.chat.documents(conversation_id) == (shared, third)
    assert ben.chat.documents(conversation_id) == ()
    ann.chat.ask(shared, conversation_id, "How many?")
    with pytest.raises(DocumentNotFound):
        ben.chat.ask(shared, conversation_id, "How many?")
    theirs = app.chat.open([shared, private])
    assert ann.chat.documents(theirs) == ()
    with pytest.raises(DocumentNotFound):
        ann.chat.ask(shared, theirs, "How many?")
    for _ in range(QUESTIONS_A_MINUTE):
        with pytest.raises((NotAllowed, DocumentNotFound)):
            ann.chat.ask(shared, theirs, "How many?")
            ann.chat.open([shared, third])
