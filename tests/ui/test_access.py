"""Every route and event of the running page, tried by nobody, another user of the machine, a visitor and its user."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import _IncludedRouter

from app.errors import BadSetting
from app.sharing import Terms
from tests.app.paper import wait_until
from tests.ui.fake_app import FakeApp
from tests.ui.fake_server import serving_here
from tests.ui.served_process import unused_port
from tests.ui.stand_in import PUBLIC_NAME, StandInTunnel
from ui.access import PUBLIC_ROUTES, VISITOR_EVENTS, VISITOR_ROUTES
from ui.guard import CLOSED_ROUTES
from ui.server import Served


@dataclass
class Place:
    """A page that is served with one of its two documents shared by the stand-in of a tunnel."""

    app: FakeApp
    served: Served
    shared: str
    private: str
    public_port: int

    @property
    def home(self) -> str:
        return f"http://127.0.0.1:{self.served.port}"

    @property
    def public(self) -> str:
        return f"http://127.0.0.1:{self.public_port}"

    @property
    def public_host(self) -> str:
        return f"{PUBLIC_NAME}:{self.public_port}"

    def nobody(self, base: str = "", **headers: str) -> httpx.Client:
        return httpx.Client(base_url=base or self.home, headers=headers, trust_env=False, timeout=30.0)

    def its_user(self) -> httpx.Client:
        with self.nobody() as client:
            return self.nobody(Cookie=cookie(client.get("/", params={"key": self.served.access.key})))

    def visitor(self, name: str = "Ann") -> httpx.Client:
        link = self.app.sharing.invite()
        with self.nobody(self.public, Host=self.public_host) as client:
            entered = client.post("/enter", data={"key": link.partition("?key=")[2], "name": name})
        return self.nobody(self.public, Host=self.public_host, Cookie=cookie(entered))


def cookie(entered: httpx.Response) -> str:
    assert entered.status_code == 303
    return entered.headers["set-cookie"].partition(";")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("access")
    app = FakeApp(folder / "home", read_seconds=0.001, word_seconds=0.0)
    app.settings = replace(app.settings, port=unused_port())
    ids = []
    for name in ("shared", "private"):
        path = folder / name
        path.write_bytes(b"%PDF " + name.encode())
        ids.append(app.library.add(path, f"{name} report.pdf"))
    with serving_here(app) as served:
        public_port = unused_port()
        app.sharing.roads["link"] = StandInTunnel(served.port, public_port)
        yield Place(app, served, *ids, public_port)
        app.close()


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    served.app.sharing.start(Terms(frozenset({served.shared})))
    yield served
    served.app.sharing.stop()


KEYED = ("/v1", "/mcp")
"""They want a program's key also of its user."""


def routes(router: object) -> Iterator[tuple[str, str]]:
    """Method and path template of every route."""
    for route in router.routes:
        if isinstance(route, _IncludedRouter):
            yield from routes(route.original_router)
        else:
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                yield method, route.path


def filled(template: str) -> str:
    """A path that the template stands for."""
    parts = [("x.js" if ":path" in part else "1") if part.startswith("{") else part for part in template.split("/")]
    return "/".join(part.replace("{url_path:path}", "a").replace("{path_or_url:path}", "a") for part in parts)


def statuses(place: Place, client: httpx.Client) -> dict[tuple[str, str], int]:
    """What every route answers; of a stream the beginning."""
    found = {}
    with client:
        for method, template in routes(place.served.blocks.app):
            with client.stream(method, filled(template)) as answer:
                found[method, template] = answer.status_code
    assert len(found) > 60
    return found


def closed(path: str) -> bool:
    return path.strip("/").removeprefix("gradio_api/").startswith(CLOSED_ROUTES)


def test_nobody_gets_anything_by_any_route(place: Place) -> None:
    """Neither here nor by the shared address, nor with a cookie or a key that was made up or is of the other side."""
    with place.its_user() as user, place.visitor() as visitor:
        users_cookie, visitors_cookie = user.headers["Cookie"], visitor.headers["Cookie"]
    made_up = f"docpod-{place.served.port}={'A' * 43}"
    strangers = {
        "another user of this machine": place.nobody(),
        "with a made-up cookie": place.nobody(Cookie=made_up),
        "with a made-up key": place.nobody(Authorization="Bearer " + "A" * 43),
        "with the visitor's cookie at home": place.nobody(Cookie=visitors_cookie),
        "by the link without its key": place.nobody(place.public, Host=place.public_host),
        "with the user's cookie by the link": place.nobody(place.public, Host=place.public_host, Cookie=users_cookie),
        "with the user's key by the link": place.nobody(
            place.public, Host=place.public_host, Authorization=f"Bearer {place.served.access.key}"
        ),
    }
    for who, client in strangers.items():
        got = statuses(place, client)
        open_ = {route for _, route in got if got[_, route] not in (401, 404, 405)}
        refused = {route for (_, route), status in got.items() if status == 401}
        assert open_ <= set(PUBLIC_ROUTES), who
        assert {route for _, route in got if not closed(route)} - refused <= set(PUBLIC_ROUTES), who


def test_a_visitor_gets_his_routes_and_no_other(place: Place) -> None:
    visitor = place.visitor()
    for (method, template), status in statuses(place, visitor).items():
        if template in (*PUBLIC_ROUTES, *VISITOR_ROUTES):
            assert status != 403, (method, template)
        elif closed(template):
            assert status == 404, (method, template)
        else:
            assert status == 403, (method, template)


def test_its_user_gets_every_route_that_is_not_closed(place: Place) -> None:
    for (method, template), status in statuses(place, place.its_user()).items():
        assert (status not in (401, 403)) or closed(template) or template in KEYED, (method, template)


@pytest.mark.parametrize("path", ["/config/", "/assets/../config", "//config", "/gradio_api//upload", "/CONFIG"])
def test_a_path_that_is_written_otherwise_opens_nothing_more(place: Place, path: str) -> None:
    with place.nobody() as nobody, place.visitor() as visitor:
        url = httpx.URL(place.home).copy_with(raw_path=path.encode())
        assert nobody.get(url).status_code in (401, 404)
        url = httpx.URL(place.public).copy_with(raw_path=path.encode())
        assert visitor.post(url).status_code in (403, 404, 405)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_site_cannot_use_what_a_browser_holds(place: Place, headers: dict[str, str]) -> None:
    with place.its_user() as user, place.visitor() as visitor:
        for client in (user, visitor):
            for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/ask", "/enter"):
                assert client.post(path, headers=headers).status_code == 403
        for host in ("evil.example", f"127.0.0.1.{PUBLIC_NAME}", PUBLIC_NAME):
            assert user.get("/config", headers={"Host": host}).status_code == 400


def call(
    place: Place,
    client: httpx.Client,
    name: str,
    *given: object,
    page: str = "",
    data: object = None,
    listener: httpx.Client | None = None,
) -> str:
    """Cause an event of the page as its script does; all that comes back until its end, as text."""
    page = page or uuid4().hex
    dependency = next(each for each in place.served.blocks.config["dependencies"] if each["api_name"] == name)
    inputs = list(given) + [None] * (len(dependency["inputs"]) - len(given))
    body = {"data": inputs, "event_data": data, "fn_index": dependency["id"], "session_hash": page, "trigger_id": 1}
    joined = client.post("/gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    lines = []
    with (listener or client).stream("GET", "/gradio_api/queue/data", params={"session_hash": page}) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if '"msg":"process_completed"' in line.replace(" ", "") or "close_stream" in line:
                break
    return "\n".join(lines)


def events(place: Place) -> set[str]:
    fns = place.served.blocks.fns.values()
    return {fn.api_name for fn in fns if fn.fn is not None}


def test_a_visitor_causes_his_events_and_no_other(place: Place) -> None:
    names = events(place)
    assert names >= VISITOR_EVENTS
    before = dict(place.app.library.documents)
    with place.visitor() as visitor:
        for name in sorted(names - VISITOR_EVENTS):
            data = {"act": "delete", "document": place.shared}
            got = call(place, visitor, name, place.shared, data=data)
            assert '"success":false' in got.replace(" ", ""), name
            assert "not shared with you" in got, name
        for name in sorted(VISITOR_EVENTS):
            got = call(place, visitor, name, place.private, data={"document": place.private, "page": "1"})
            assert "private report" not in got, name
            assert "docpod.sqlite3" not in got and str(place.app.settings.home) not in got, name
    assert place.app.library.documents == before


def test_a_visitor_reads_and_asks_what_is_shared(place: Place) -> None:
    with place.visitor() as ann, place.visitor("Ben") as ben, place.its_user() as user:
        assert "shared report" in call(place, ann, "load", "", "")
        opened = call(place, ann, "open", "", "", "", data={"document": place.shared})
        assert "shared report" in opened and "data:image/" in opened
        asked = call(place, ann, "ask", place.shared, "", "How many members?")
        assert "117.6 million" in asked
        assert "How many members?" in call(place, ann, "load", place.shared, "")
        for other in (ben, user):
            assert "How many members?" not in call(place, other, "load", place.shared, "")


def test_a_conversation_is_exported_to_whom_it_belongs(place: Place) -> None:
    with place.visitor() as ann, place.visitor("Ben") as ben, place.its_user() as user, place.nobody() as nobody:
        for client, name in ((ann, "a" * 32), (user, "b" * 32)):
            call(place, client, "ask", place.shared, name, "How many “members”?")
        his, hers = "/export/{}/" + "b" * 32, "/export/{}/" + "a" * 32
        got = ann.get(hers.format("html"))
        assert got.status_code == 200 and "117.6 million" in got.text
        assert got.headers["content-disposition"] == (
            "attachment; filename*=UTF-8''How%20many%20%E2%80%9Cmembers%E2%80%9D.html"
        )
        assert (got.headers["cache-control"], got.headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert user.get(his.format("pdf")).content.startswith(b"%PDF of shared report with 2 marks")
        assert user.get(his.format("pdf"), params={"document": place.private}).status_code == 404
        refused = ann.get(hers.format("pdf"))
        assert refused.status_code == 404 and "not shared with you" in refused.text
        for form in ("md", "html", "pdf", "exe"):
            assert ben.get(hers.format(form)).status_code == ann.get(his.format(form)).status_code == 404
            assert nobody.get(his.format(form)).status_code == 401


def test_the_original_is_for_whoever_sees_the_document(place: Place) -> None:
    with place.nobody() as nobody, place.visitor() as visitor, place.its_user() as user:
        for client, document_id, status in (
            (nobody, place.shared, 401),
            (visitor, place.shared, 200),
            (visitor, place.private, 404),
            (visitor, "..%2fdocpod.sqlite3", 403),
            (user, place.private, 200),
        ):
            got = client.get(f"/original/{document_id}")
            assert got.status_code == status
            if status == 200:
                assert got.content.startswith(b"%PDF ")
                assert got.headers["content-disposition"].startswith("attachment")
                assert got.headers["content-type"] == "application/octet-stream"


def test_an_archive_is_for_its_owner_and_leaves_nothing_behind(place: Place) -> None:
    with place.nobody() as nobody, place.visitor() as visitor, place.its_user() as user:
        for client, document_id, status in (
            (nobody, place.shared, 401),
            (visitor, place.shared, 403),
            (user, "0" * 64, 404),
            (user, place.private, 200),
        ):
            got = client.get(f"/archive/{document_id}")
            assert got.status_code == status
        assert got.headers["content-disposition"].startswith("attachment") and ".docpod" in str(got.headers)
        archives = place.app.library.folder / "archives"
        wait_until(lambda: list(archives.iterdir()) == [], "the end of the archive")


def test_the_frame_of_a_pdf_is_a_sandbox_for_everybody(place: Place) -> None:
    with place.nobody() as nobody:
        for path in ("", "viewer.mjs", "pdfjs/pdf.min.mjs", "pdfjs/cmaps/78-H.bcmap"):
            got = nobody.get(f"/pdf-viewer/{path}")
            assert got.status_code == 200
            policy = got.headers["content-security-policy"]
            assert policy.startswith("sandbox allow-scripts; default-src 'none'")
            assert "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")
        for path in ("..%2fserver.py", "../server.py", "%2e%2e/server.py"):
            url = httpx.URL(place.home).copy_with(raw_path=f"/pdf-viewer/{path}".encode())
            assert nobody.get(url).status_code in (401, 404)


def test_an_open_page_is_its_first_users(place: Place) -> None:
    page = uuid4().hex
    with place.visitor() as ann, place.visitor("Ben") as ben:
        call(place, ann, "load", page=page)
        assert ben.get("/gradio_api/queue/data", params={"session_hash": page}).status_code == 403
        assert "belongs to somebody else" in call(place, ben, "load", page=page, listener=ann)


def test_too_many_requests_are_refused(place: Place) -> None:
    with place.visitor() as visitor:
        got = {visitor.get("/robots.txt").status_code for _ in range(5)}
        assert got == {200}
        found = place.app.sharing.visitor(place.public_host, visitor.headers["Cookie"].partition("=")[2])
        while found.requests.take():
            pass
        assert visitor.get("/config").status_code == 429


@pytest.mark.parametrize("end", ["stop", "remove"])
def test_when_sharing_ends_streams_end_too(place: Place, end: str) -> None:
    with place.visitor() as visitor:
        assert visitor.get("/config").status_code == 200
        if end == "stop":
            place.app.sharing.stop()
            with pytest.raises(httpx.TransportError):
                visitor.get("/config")
            # Whoever reaches the page under its old name all the same, gets nothing either.
            with place.nobody(Host=place.public_host, Cookie=visitor.headers["Cookie"]) as nobody:
                assert nobody.get("/").status_code == 400
        else:
            place.app.sharing.remove(place.app.sharing.state().visitors[0][0])
            assert visitor.get("/config").status_code == 401


def test_a_link_that_is_looked_at_is_not_used_up(place: Place) -> None:
    link = place.app.sharing.invite()
    with place.nobody(place.public, Host=place.public_host) as nobody:
        for _ in range(3):
            page = nobody.get("/", params={"key": link.partition("?key=")[2]})
            assert page.status_code == 401
            assert 'name="key"' in page.text and "set-cookie" not in page.headers
        assert 'name="key"' not in nobody.get("/").text
        escaped = nobody.get("/", params={"key": '"><script>x</script>'}).text
        assert "<script>" not in escaped
        assert not place.app.sharing.state().link_is_used


def test_the_address_that_a_browser_is_given_works_once(place: Place) -> None:
    address = place.served.url_once()
    with place.nobody() as one, place.nobody() as other:
        entered = one.get(address)
        assert entered.status_code == 303
        for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
            assert part in entered.headers["set-cookie"]
        assert one.get("/config").status_code == 200
        assert "used already" in other.get(address).text
        assert other.get("/config").status_code == 401
        # The printed one holds as long as the page is served.
        assert [other.get(place.served.url).status_code for _ in range(2)] == [303, 303]


def test_an_oversized_form_is_no_way_in(place: Place) -> None:
    with place.nobody(place.public, Host=place.public_host) as nobody:
        answer = nobody.post("/enter", data={"key": "x" * 100_000})
        assert answer.status_code == 401


@contextmanager
def served_with(tmp_path: Path, **settings: object) -> Iterator[tuple[FakeApp, Served]]:
    app = FakeApp(tmp_path / "home")
    app.settings = replace(app.settings, port=unused_port(), **settings)
    with serving_here(app) as served:
        yield app, served


def reaching(served: Served, host: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{served.port}", headers={"Host": host}, trust_env=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "somewhere.example"])
def test_the_network_needs_a_password(tmp_path: Path, host: str) -> None:
    with pytest.raises(BadSetting, match="whole library would be open"), served_with(tmp_path, host=host):
        pass


def test_a_password_lets_its_user_in_from_the_network(tmp_path: Path) -> None:
    with (
        served_with(tmp_path, host="0.0.0.0", page_password="open sesame") as (_, served),
        reaching(served, "10.0.0.7") as client,
    ):
        assert "Password" in client.get("/").text
        assert client.post("/enter", data={"password": "wrong"}).status_code == 401
        entered = client.post("/enter", data={"password": "open sesame"})
        assert entered.status_code == 303
        client.headers["Cookie"] = entered.headers["set-cookie"].partition(";")[0]
        assert client.get("/config").status_code == 200
        assert [client.post("/enter", data={"password": "guess"}).status_code for _ in range(12)] == [401] * 12
        assert "Too many attempts" in client.post("/enter", data={"password": "open sesame"}).text


def test_on_the_local_network_only_what_is_shared_is_there(tmp_path: Path) -> None:
    with served_with(tmp_path, listen=True) as (app, served):
        path = tmp_path / "a"
        path.write_bytes(b"%PDF a")
        document_id = app.library.add(path, "a.pdf")
        host = f"{PUBLIC_NAME}:{served.port}"
        with reaching(served, host) as guest:
            assert guest.get("/").status_code == 400
            network = app.sharing.roads["network"]
            network.open = lambda: f"http://{host}"
            app.sharing.start(Terms(frozenset({document_id}), "network", password="open sesame"))
            assert guest.get("/config").status_code == 401
            assert guest.get("/", params={"key": served.access.key}).status_code == 401
            assert guest.post("/enter", data={"password": "open sesame"}).status_code == 303


def test_the_page_can_be_installed(place: Place) -> None:
    with place.nobody() as nobody:
        manifest = json.loads(nobody.get("/manifest.json").text)
        assert (manifest["name"], manifest["display"]) == ("DocPod", "standalone")
        for icon in manifest["icons"]:
            assert nobody.get(icon["src"]).status_code == 200
    with place.its_user() as user:
        assert '<link rel="manifest"' in user.get("/").text
