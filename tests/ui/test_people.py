"""People: two members, a visitor, an owner and nobody, each tried on what is another's, by every route, event and
command of the running app, and by ids that were guessed right.
"""

import argparse
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from unittest.mock import patch

import httpx
import pytest

from app import cli
from app.conversations import Asked, Conversations
from app.errors import AppError, BadSetting, DocumentNotFound, NotAllowed
from app.events import Answer, Turn
from app.main import App
from app.people import ATTEMPTS_A_MINUTE, EVERYBODY
from app.roles import MEMBER, VISITOR
from app.settings import Settings
from tests.storage.rows import filled
from tests.ui.fake_server import serving_here
from tests.ui.served_process import unused_port
from tests.ui.test_access import call, closed, cookie, routes
from tests.ui.test_access import filled as path_of
from ui.access import MEMBER_EVENTS, MEMBER_ROUTES, PUBLIC_ROUTES, VISITOR_EVENTS, VISITOR_ROUTES
from ui.server import Served, serve

SECRET, PASSWORD = "zanzibar", "correct horse"
PEOPLE = {"ann": "member", "ben": "member", "vi": "visitor", "olga": "owner"}
PROXIED = {"trusted_header": "X-Forwarded-Email", "trusted_proxy": "127.0.0.0/8"}


OF_HIS_OWN = {"library.receive", "library.add", "library.sample", "keys.create", "collections.share", "model.settled"}
OF_HIS_OWN |= {"model.calibrated", "keys.all", "keys.revoke", "collections.all"}
"""Verbs that are told of no document and no conversation."""


@dataclass
class Place:
    """A served home with the document of Ann, which is of the same bytes as one of Ben."""

    app: App
    served: Served
    document_id: str
    conversation_id: str
    keys: dict[str, str]

    def client(self, name: str = "", **headers: str) -> httpx.Client:
        """Of somebody who is signed in, or of nobody."""
        base = f"http://127.0.0.1:{self.served.port}"
        if name:
            with httpx.Client(base_url=base, trust_env=False) as client:
                headers["Cookie"] = cookie(client.post("/enter", data={"name": name, "password": PASSWORD}))
        return httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=60.0)

    def has(self, name: str) -> App:
        return self.app.people.app(self.app.people.named(name))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("people")
    app = App(Settings(home=folder / "home", port=unused_port(), model=str(folder), meaning=False, browser=False))
    for name, role in PEOPLE.items():
        app.people.add(name, role, PASSWORD)
    ids = {}
    for name in ("ann", "ben"):
        path = folder / f"{SECRET if name == 'ann' else 'mine'}.txt"
        path.write_text("The same words for both of them.")
        ids[name] = app.people.app(app.people.named(name)).library.add(path, path.name)
    assert ids["ann"] != ids["ben"]
    assert [path.name for path in app._home.documents.iterdir()] == [app._store.document(ids["ann"]).digest]
    ann = app._store.seen_by(app.people.app(app.people.named("ann")).parts.library._store.viewer)
    filled(ann, ids["ann"], SECRET)
    ann.delete_conversation(ann.conversations()[0].id)
    Conversations(ann).take(ids["ann"], f"About {SECRET}", [Turn(f"Where is {SECRET}?", Answer(SECRET), "done")])
    conversation_id = ann.conversations()[0].id
    ann.rename_document(ids["ann"], f"{SECRET} plan")
    ann.tag_document(ids["ann"], ["plans", SECRET])
    keys = {}
    for name in ("ann", "ben", "olga"):
        keys[name] = app.people.app(app.people.named(name)).keys.create("all", ["read", "ask", "write"])[1]
    with serving_here(app) as served:
        yield Place(app, served, ids["ann"], conversation_id, keys)
    app.close()


def anns(place: Place, template: str) -> str:
    """The path of a route to what is Ann's."""
    told = {"document_id": place.document_id, "file_id": place.document_id, "conversation_id": place.conversation_id}
    told |= {"form": "html", "number": "1", "model_id:path": place.document_id}
    for name, value in told.items():
        template = template.replace(f"{{{name}}}", value)
    return path_of(template)


def every_route(place: Place) -> list[tuple[str, str]]:
    """Those of the API below their place too."""
    found = []
    for method, template in routes(place.served.blocks.app):
        if template == "/v1":
            api = next(each.app._api for each in place.served.blocks.app.routes if getattr(each, "path", "") == "/v1")
            found += [(kind, f"/v1{path}") for kind, path in routes(api)]
        else:
            found.append((method, template))
    assert len(found) > 75 and ("DELETE", "/v1/files/{file_id}") in found
    return found


BODY = {"model": "docpod", "input": "What?", "max_tokens": 9, "messages": [{"role": "user", "content": "What?"}]}


def said(client: httpx.Client, method: str, path: str, **more: object) -> tuple[int, str]:
    """Status and body; of a stream the beginning. Each by a connection of its own: some of Gradio's break it off."""
    with client.stream(method, path, headers={"Connection": "close"}, **more) as answer:
        text = str(answer.headers)
        with suppress(httpx.ReadError, httpx.RemoteProtocolError):
            if "event-stream" not in answer.headers.get("content-type", ""):
                text += answer.read().decode("latin-1")
        return answer.status_code, text


@pytest.mark.parametrize("who", ["nobody", "ben", "vi"])
def test_no_route_tells_of_what_is_anns(place: Place, who: str) -> None:
    headers = {"Authorization": f"Bearer {place.keys[who]}"} if who in place.keys else {}
    with place.client("" if who == "nobody" else who) as page, place.client(**headers) as program:
        for method, template in every_route(place):
            path = anns(place, template)
            keyed = template.startswith(("/v1", "/mcp"))
            body = {**BODY, "model": place.document_id} if method == "POST" and keyed else None
            status, text = said(program if keyed else page, method, path, json=body)
            assert SECRET not in text, (method, template)
            if "{document_id}" in template or "{file_id}" in template or "{conversation_id}" in template:
                assert status in (401, 403, 404, 405), (method, template, status)
            if who == "nobody" and not closed(template):
                assert template in PUBLIC_ROUTES or status in (401, 405, 404), (method, template, status)
    assert place.app._store.document(place.document_id) is not None


def test_its_owner_gets_it_by_these_routes(place: Place) -> None:
    """The ones above find nothing because it is Ann's, and not because there is nothing."""
    with place.client("ann") as page, place.client(Authorization=f"Bearer {place.keys['ann']}") as program:
        for path in ("/original/{document_id}", "/export/{form}/{conversation_id}"):
            assert page.get(anns(place, path)).status_code == 200
        for path in ("/v1/files/{file_id}", "/v1/files/{file_id}/content", "/v1/files/{file_id}/pages/{number}"):
            assert program.get(anns(place, path)).status_code == 200
        assert [each["filename"] for each in program.get("/v1/files").json()["data"]] == [f"{SECRET}.txt"]


@pytest.mark.parametrize("how", ["file_id", "model", "previous_response_id", "mcp"])
def test_a_program_of_ben_asks_nothing_of_anns(place: Place, how: str) -> None:
    part = {"type": "file", "file": {"file_id": place.document_id}}
    path, body = {
        "file_id": ("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        "model": ("/v1/chat/completions", {**BODY, "model": place.document_id}),
        "previous_response_id": (
            "/v1/responses",
            {"input": "?", "previous_response_id": f"resp_{place.document_id}_{place.conversation_id}_1"},
        ),
        "mcp": (
            "/mcp",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "page_image", "arguments": {"document": place.document_id, "page": 1}},
            },
        ),
    }[how]
    headers = {"Authorization": f"Bearer {place.keys['ben']}", "Accept": "application/json, text/event-stream"}
    with place.client(**headers) as program:
        got = program.post(path, json=body)
        assert SECRET not in got.text
        assert got.status_code == 404 or (how == "mcp" and "No document is called" in got.text)


def events(place: Place) -> set[str]:
    return {fn.api_name for fn in place.served.blocks.fns.values() if fn.fn is not None}


@pytest.mark.parametrize("who", ["ben", "vi"])
def test_no_event_of_the_page_tells_or_does_anything_to_what_is_anns(place: Place, who: str) -> None:
    mine = MEMBER_EVENTS if who == "ben" else VISITOR_EVENTS
    assert mine <= events(place)
    before = rows(place.app)
    acts = ["read", "ocr", "pause", "cancel", "delete", "rename", "tag", "move", "unlock", "attachment", "start", "use"]
    with place.client(who) as client:
        for name in sorted(events(place)):
            for act in acts if name in ("act", "act_welcome") else acts[4:5]:
                data = {"act": act, "document": place.document_id, "conversation": place.conversation_id, "page": "1"}
                data |= {"title": "stolen", "step": "first", "documents": place.document_id, "edit": "2", "number": 1}
                data |= {"turn": 1, "tag": "plans", "password": "", "choice": "x", "setting": "port", "value": "1"}
                got = call(place, client, name, place.document_id, place.conversation_id, SECRET[:5], data=data)
                assert SECRET not in got.replace(SECRET[:5] + '"', ""), (name, act)
                if name not in mine:
                    assert "not shared with you" in got, name
    assert rows(place.app) == before


def rows(app: App) -> dict[str, list[str]]:
    """All that is kept but for what counts the changes."""
    with app._store._database.engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        kept = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names}
    return {name: sorted(map(repr, found)) for name, found in kept.items() if name not in ("preferences", "sign_ins")}


def commands() -> Iterator[list[str]]:
    """Every command of the command line that the app itself runs."""
    parser = cli._parser({"serve": lambda app: None})

    def below(parser: object, words: list[str]) -> Iterator[list[str]]:
        chosen = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        for action in chosen:
            for name, sub in action.choices.items():
                yield from below(sub, [*words, name])
        if not chosen and not parser.get_default("unopened") and words != ["serve"]:
            given = [each for each in parser._actions if not each.option_strings and each.nargs not in ("?",)]
            yield [*words, *(each.dest for each in given)]

    yield from below(parser, [])


def test_no_command_as_ben_tells_or_does_anything_to_what_is_anns(place: Place, tmp_path: Path) -> None:
    tried, before = [], rows(place.app)
    for words in commands():
        told = {"document": place.document_id, "conversation": place.conversation_id, "number": "1", "key": "docpod-1"}
        line = [told.get(each, each) for each in words]
        if words[:1] in (["read"], ["import"]) or words[:2] in (["keys", "create"], ["keys", "list"]):
            continue
        out = io.StringIO()
        options = cli._parser({"serve": lambda app: None}).parse_args([*line, "--person", "ben"])
        with redirect_stdout(out), redirect_stderr(out), patch("sys.stdin", io.StringIO("a password\n")):
            try:
                print(options.run(place.has("ben"), options), file=out)
            except (AppError, BadSetting) as error:
                print(error, file=out)
        assert SECRET not in out.getvalue(), line
        tried.append(words[0])
    assert {"ls", "show", "delete", "ask", "search", "conversations", "people", "settings"} <= {*tried}
    assert rows(place.app) == before


@pytest.mark.parametrize("who", ["ben", "vi"])
def test_no_verb_of_the_app_does_anything_to_what_is_anns(place: Place, who: str) -> None:
    """By the gate itself: each verb that a role has, on Ann's document and conversation."""
    before = rows(place.app)
    for path in sorted(MEMBER if who == "ben" else VISITOR):
        part: object = place.has(who)
        *names, verb = path.split(".")
        for name in names:
            part = getattr(part, name)
        found = getattr(part, verb)
        if not callable(found) or path in OF_HIS_OWN:
            continue
        first = place.conversation_id if MEMBER[path].__name__ == "_said" or "chat" in path else place.document_id
        first = [place.document_id] if path == "chat.open" else first
        if path in ("chat.ask", "chat.expect"):
            first = place.document_id
        more = {"chat.ask": [place.conversation_id, "Why?"], "library.rename": ["stolen"], "search.cited": [1, SECRET]}
        more |= {"library.add_attachment": [1], "library.unlock": ["x"], "library.export": [Path("stolen")]}
        more |= {"library.highlighted": [[]], "questions.ask": ["Why?", place.conversation_id]}
        if path == "questions.answer":
            first = Asked(place.document_id, "Why?", place.conversation_id)
        if path == "library.catalogue.entries":
            first = ""
        more |= {"chat.rename": ["stolen"], "library.catalogue.tag": ["stolen"], "library.page_image": [1]}
        try:
            got = found(first, *more.get(path, []))
            got = list(got) if hasattr(got, "__next__") else got
        except AppError:
            continue
        assert SECRET not in repr(got) and place.document_id not in repr(got), path
    assert rows(place.app) == before


def test_what_is_asked_beside_ones_own_is_looked_at_too(place: Place) -> None:
    ben = place.has("ben")
    (own,) = ben.library.catalogue.entries()
    for ask in (
        lambda: next(ben.questions.ask(own.document_id, "Why?", beside=[place.document_id])),
        lambda: next(ben.questions.answer(Asked(own.document_id, "Why?", beside=(place.document_id,)), Event())),
        lambda: ben.chat.open([own.document_id, place.document_id]),
        lambda: ben.chat.ask(own.document_id, place.conversation_id, "Why?", instead_of=1),
    ):
        with pytest.raises(DocumentNotFound):
            ask()


def test_everything_that_is_not_named_is_refused_to_a_member(place: Place) -> None:
    ben = place.has("ben")
    for name in {*vars(App), "preferences", "readers", "sharing", "people", "settings"} - {"role", "name", "may_ask"}:
        if not name.startswith("_") and name not in MEMBER and name not in ("status", "signs_out"):
            with pytest.raises(NotAllowed):
                getattr(ben, name)
    assert ben.status().notice == ben.status().why == ""


def test_an_owner_has_everything(place: Place) -> None:
    olga = place.has("olga")
    assert place.document_id in [each.document_id for each in olga.library.catalogue.entries()]
    assert olga.settings is place.app.settings and olga.readers is place.app.readers
    assert olga.questions.conversations() == []


def test_a_shared_tag_lets_its_people_read_and_ask(place: Place) -> None:
    ann, ben, vi = place.has("ann"), place.has("ben"), place.has("vi")
    ann.collections.share("plans", ["Ben"])
    try:
        assert ann.collections.all() == {"plans": ["ben"]}
        (got,) = [each for each in ben.library.catalogue.entries() if not each.is_own]
        assert (got.tags, got.forecast) == (("plans",), None)
        assert ben.search.find(SECRET).documents and vi.search.find(SECRET).documents == ()
        with pytest.raises(NotAllowed, match="Only its owner"):
            ben.library.delete(place.document_id)
        assert vi.library.catalogue.entries() == []
        ann.collections.share("plans", [EVERYBODY])
        assert [each.document_id for each in vi.library.catalogue.entries()] == [place.document_id]
        with place.client("vi") as client:
            assert client.get(f"/original/{place.document_id}").status_code == 200
            assert SECRET in call(place, client, "load", place.document_id, "")
    finally:
        ann.collections.share("plans", [])
    with pytest.raises(DocumentNotFound):
        vi.library.original(place.document_id)


def test_one_sentence_for_a_wrong_name_and_a_wrong_password_and_few_tries(place: Place) -> None:
    with place.client() as client:
        assert "Sign in to DocPod" in client.get("/").text
        tries = [{"name": "ann", "password": "wrong"}, {"name": "nobody", "password": PASSWORD}]
        pages = [client.post("/enter", data=each) for each in tries]
        assert [each.status_code for each in pages] == [401, 401]
        assert pages[0].text == pages[1].text and "not the name and password of anybody" in pages[0].text
        for name in ("guessed", "guessed again"):
            for _ in range(ATTEMPTS_A_MINUTE):
                client.post("/enter", data={"name": name, "password": "wrong"})
            assert "Too many attempts" in client.post("/enter", data={"name": name, "password": "x"}).text


def test_the_cookie_is_the_browsers_alone_and_ends_with_signing_out(place: Place) -> None:
    with place.client() as nobody:
        entered = nobody.post("/enter", data={"name": " Olga ", "password": PASSWORD})
        assert re.search(r"; HttpOnly; SameSite=Lax$", entered.headers["set-cookie"])
    with place.client("ben") as ben:
        assert ben.get("/config").status_code == 200
        assert ben.post("/leave", headers={"Origin": "https://evil.example"}).status_code == 403
        left = ben.post("/leave")
        assert left.status_code == 303 and "Max-Age=0" in left.headers["set-cookie"]
        assert ben.get("/config").status_code == 401
    with place.client("ben") as ben:
        place.app.people.set_password("ben", PASSWORD)
        assert ben.get("/config").status_code == 401


def test_a_file_of_the_home_is_no_upload(place: Place) -> None:
    with place.client("ben") as ben:
        stolen = {"path": str(place.app.settings.home / "docpod.sqlite3"), "meta": {"_type": "gradio.FileData"}}
        got = call(place, ben, "upload", "", "", "", [stolen])
        assert '"success":false' in got.replace(" ", "") and (place.app.settings.home / "docpod.sqlite3").exists()


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Place]:
    more = {"names": "docs.example", "unknown_people": "member"}
    home = tmp_path / "home"
    app = App(Settings(home=home, port=unused_port(), model=str(tmp_path), meaning=False, **PROXIED, **more))
    app.people.add("boss@example.org", "owner")
    with serving_here(app) as served:
        yield Place(app, served, "", "", {})
    app.close()


def test_a_proxy_says_who_is_there(proxied: Place) -> None:
    name = {"X-Forwarded-Email": "Ann@Example.org", "Host": "docs.example"}
    with proxied.client(**name) as ann:
        assert ann.get("/config").status_code == 200
        assert "ann@example.org" in call(proxied, ann, "load", "", "")
        twice = [("X-Forwarded-Email", "boss@example.org"), *name.items()]
        with httpx.Client(base_url=ann.base_url, trust_env=False) as client:
            assert client.get("/config", headers=twice).status_code == 403
    assert [(each.name, each.role) for each in proxied.app.people.all()] == [
        ("ann@example.org", "member"),
        ("boss@example.org", "owner"),
    ]
    with proxied.client(Host="docs.example") as nobody, proxied.client(**name | {"Host": "evil.example"}) as evil:
        assert nobody.get("/config").status_code == 401
        assert evil.get("/config").status_code == 400


def test_a_header_that_is_no_name_is_nobody(proxied: Place) -> None:
    with proxied.client(**{"X-Forwarded-Email": "x" * 300}) as client:
        assert client.get("/config").status_code == 401


@pytest.mark.parametrize("forwarded", ["", "127.0.0.1"])
def test_from_any_other_address_the_header_is_refused(proxied: Place, forwarded: str) -> None:
    proxied.app.people._proxies = []
    headers = {"X-Forwarded-Email": "boss@example.org", **({"X-Forwarded-For": forwarded} if forwarded else {})}
    with proxied.client(**headers) as client:
        for path in ("/", "/config", "/v1/files"):
            assert client.get(path).status_code == 403


def test_what_a_proxy_on_this_machine_says_of_addresses_is_not_believed(proxied: Place) -> None:
    """uvicorn takes it for where a request comes from, unless it is told not to."""
    headers = {"X-Forwarded-Email": "boss@example.org", "X-Forwarded-For": "10.9.9.9"}
    with proxied.client(**headers) as client:
        assert client.get("/config").status_code == 200


def test_unknown_people_can_be_refused(proxied: Place) -> None:
    proxied.app.settings.unknown_people = "refused"
    with proxied.client(**{"X-Forwarded-Email": "eve@example.org"}) as eve:
        assert eve.get("/config").status_code == 401
    assert len(proxied.app.people.all()) == 1


@pytest.mark.parametrize(
    "given", [{"trusted_header": "Remote-User"}, {"trusted_proxy": "10.0.0.1"}, {**PROXIED, "trusted_proxy": "x"}]
)
def test_a_header_without_addresses_is_refused_at_the_start(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match=r"--trusted-proxy|named addresses"):
        App(Settings(home=tmp_path, **given))


def test_with_people_the_page_may_be_served_to_the_network(tmp_path: Path) -> None:
    app = App(Settings(home=tmp_path, port=unused_port(), host="0.0.0.0", model=str(tmp_path), meaning=False))
    with pytest.raises(BadSetting, match="whole library would be open"), serve(app):
        pass
    app.people.add("ann", "member", PASSWORD)
    with serving_here(app) as served, Place(app, served, "", "", {}).client("ann") as ann:
        assert ann.get("/config").status_code == 200
    app.close()


def test_routes_of_members_are_routes(place: Place) -> None:
    known = {template for _, template in routes(place.served.blocks.app)}
    assert {*MEMBER_ROUTES, *VISITOR_ROUTES} <= known
    assert json.dumps(sorted(known - {*MEMBER_ROUTES}))
