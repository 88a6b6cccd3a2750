"""The served page: refuses other sites and hosts, limits uploads, leaves no copies, works without any other server."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

import ui.main
from app.errors import BadSetting
from tests.app.paper import wait_until
from tests.ui.fake_app import FakeApp
from tests.ui.fake_server import serving_fake, serving_here
from tests.ui.served_process import at_home
from ui.main import UNCLAIMED_SECONDS
from ui.server import free_port


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "home"


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[httpx.Client]:
    with (
        serving_fake(home, max_upload_mb=1) as url,
        at_home(url) as client,
    ):
        yield client


def stored(home: Path) -> list[Path]:
    return [path for path in (home / "uploads").rglob("*") if path.is_file()]


def upload(client: httpx.Client, data: bytes, **headers: str) -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": ("a.pdf", data)}, headers=headers)


def test_the_page_sets_its_headers(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "nosniff" in client.get("/favicon.ico").headers["x-content-type-options"]


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    html = client.get("/").text
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?:)?//""", html)
    assert loaded == []
    assert "fonts.g" not in html + client.get("/theme.css").text
    assert '"run_history":false' in html.replace(" ", "")
    assert '"analytics_enabled":false' in html.replace(" ", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_posts_of_other_sites_are_refused(client: httpx.Client, home: Path, headers: dict[str, str]) -> None:
    assert upload(client, b"%PDF", **headers).status_code == 403
    assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
    assert stored(home) == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7940", "127.0.0.1.evil.example", "", "[", "10.0.0.7"])
def test_other_hosts_are_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/config", headers={"Host": host}).status_code == 400


def test_our_own_hosts_are_served(client: httpx.Client) -> None:
    port = client.base_url.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert client.get("/config", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "route", ["file=/etc/hostname", "proxy=http://a.example", "monitoring", "runs", "FILE=/etc/hostname"]
)
def test_routes_that_the_page_does_not_use_are_closed(client: httpx.Client, route: str) -> None:
    for prefix in ("/gradio_api/", "/"):
        assert client.get(prefix + route).status_code in (403, 404)
    assert client.get("/docs").status_code == 404


def test_an_upload_beyond_the_limit_is_refused_and_forgotten(client: httpx.Client, home: Path) -> None:
    assert upload(client, b"x" * 1_100_000).status_code == 413
    assert stored(home) == []


def test_a_folder_of_our_own_is_used_privately(client: httpx.Client, home: Path) -> None:
    answer = upload(client, b"%PDF-1.7 private", Origin=str(client.base_url).rstrip("/"))
    assert answer.status_code == 200
    path = Path(answer.json()[0])
    assert path.is_relative_to(home / "uploads")
    assert (home / "uploads").stat().st_mode & 0o077 == 0
    assert client.get(f"/gradio_api/file={path}").status_code == 404
    path.unlink()


def test_the_upload_folder_ends_with_the_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving_fake(home) as url, at_home(url) as client:
        answer = client.post("/gradio_api/upload", files={"files": ("a", b"left")})
        assert Path(answer.json()[0]).exists()
    assert list((home / "uploads").iterdir()) == []


def test_an_upload_that_no_page_takes_goes_within_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(UNCLAIMED_SECONDS) <= 600
    monkeypatch.setattr(ui.main, "UNCLAIMED_SECONDS", (0.05, 0.01))
    with serving_fake(tmp_path / "home") as url, at_home(url) as client:
        path = Path(upload(client, b"left").json()[0])
        wait_until(lambda: not path.exists())


def test_a_taken_port_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 50


def test_an_address_that_does_not_exist_is_explained() -> None:
    with pytest.raises(BadSetting, match="does not exist"):
        free_port("no-such-host.invalid", 7860)


def test_two_hundred_questions_at_once_wait_for_each_other_and_all_end(tmp_path: Path) -> None:
    app = FakeApp(tmp_path / "home", read_seconds=0.001, word_seconds=0.01)
    document_id = app.library.add(app.library.sample(), "sample.pdf")
    with serving_here(app) as served, at_home(served.url) as client:
        client = httpx.Client(base_url=client.base_url, cookies=client.cookies, timeout=120, limits=httpx.Limits())
        ask = next(each for each in served.blocks.config["dependencies"] if each["api_name"] == "ask")

        def answered(number: int) -> bool:
            page, conversation_id = uuid4().hex, uuid4().hex
            given = [document_id, conversation_id, f"Who is number {number}?", 0]
            body = {"data": given, "fn_index": ask["id"], "session_hash": page, "trigger_id": 1}
            client.post("/gradio_api/queue/join", json=body).raise_for_status()
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": page}) as stream:
                done = next(json.loads(line[5:]) for line in stream.iter_lines() if "process_completed" in line)
            (turn,) = app.chat.turns(conversation_id)
            return bool(done["success"]) and turn.state == "done"

        with ThreadPoolExecutor(200) as pool:
            assert all(pool.map(answered, range(200)))
        app.close()
