"""An answer on its way to a program: it waits for its document, and ends once nobody listens any longer."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

import run_app
from app.conversations import Asked
from app.errors import BadSetting, NotRead
from app.events import Answer, AskEvent, Evidence, TextDelta
from tests.ui.fake_app import FakeApp
from ui.api import Api, reply
from ui.api.refusals import Refused
from ui.api.reply import Inquiry, Reply

PATIENCE_SECONDS = 30.0


class EndlessQuestions:
    """Says one word after another until it is stopped; `failure` comes first, if there is one."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked: list[Asked] = []
        self.ended = threading.Event()

    def answer(self, asked: Asked, stop: threading.Event) -> Iterator[AskEvent]:
        self.asked.append(asked)
        if self.failure:
            raise self.failure
        yield Evidence(True, ())
        words = 0
        while not stop.wait(0.001):
            words += 1
            yield TextDelta("word ")
        self.ended.set()
        yield Answer("word " * words, found=True, stopped=True)


@pytest.fixture
def app(tmp_path: Path) -> FakeApp:
    """An app with one document that is read, and endless answers."""
    app = FakeApp(tmp_path / "home", read_seconds=100.0, clock=lambda: 0.0)
    app.questions = EndlessQuestions()
    path = tmp_path / "a.txt"
    path.write_text("A text.")
    app.document_id = app.library.add(path, "a.txt")
    app.library.documents[app.document_id].stage = "ready"
    return app


def replying(app: FakeApp, pool: ThreadPoolExecutor, **more: Any) -> Reply:
    return Reply(app, pool, Inquiry((app.library.catalogue.entry(app.document_id),), "Why?", **more))


def test_whoever_goes_away_ends_the_answer(app: FakeApp) -> None:
    async def go_away(pool: ThreadPoolExecutor) -> None:
        answer = replying(app, pool)
        await answer.begin()
        async with aclosing(answer.events()) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(go_away(pool))
        assert app.questions.ended.wait(PATIENCE_SECONDS)


def test_an_answer_is_as_long_as_it_may_be(app: FakeApp) -> None:
    async def finish(pool: ThreadPoolExecutor) -> None:
        answer = replying(app, pool, max_tokens=3)
        await answer.begin()
        end = await answer.finish()
        assert (answer.tokens, end.answer, answer.is_cut(end)) == (3, "word " * 3, True)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(finish(pool))


def test_a_document_on_its_way_is_waited_for_and_then_said_to_be(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "STEP_SECONDS", 0.01)
    now = [0.0]
    app.library.clock = lambda: now[0]
    app.library.documents[app.document_id].stage = "reading"

    async def ask(pool: ThreadPoolExecutor) -> None:
        answer = replying(app, pool)
        beginning = asyncio.create_task(answer.begin())
        await asyncio.sleep(0.1)
        assert app.questions.asked == []
        now[0] = 200.0
        await beginning
        await anext(answer.events())
        app.library.documents[app.document_id].stage = "reading"
        app.library.documents[app.document_id].since = now[0]
        monkeypatch.setattr(reply, "WAIT_SECONDS", 0.0)
        with pytest.raises(Refused, match="still being read") as caught:
            await replying(app, pool).begin()
        assert (caught.value.status, len(app.questions.asked)) == (409, 1)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(pool))
        assert app.questions.ended.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("stage", ["paused", "locked", "failed", "ready"])
def test_a_document_that_stands_still_is_said_to_at_once(app: FakeApp, stage: str) -> None:
    app.library.documents[app.document_id].stage = stage
    app.questions.failure = NotRead("Not read.", "Read it.")

    async def ask(pool: ThreadPoolExecutor) -> None:
        with pytest.raises(Refused, match="has not been read") as caught:
            await replying(app, pool).begin()
        assert caught.value.status == 409 and stage in caught.value.message

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(pool))


@pytest.mark.parametrize("named", [True, False])
def test_each_named_document_must_be_read_and_of_all_those_answer_that_are(app: FakeApp, named: bool) -> None:
    app.library.folder.joinpath("b").write_text("Another.")
    other = app.library.add(app.library.folder / "b", "b.txt")
    app.library.documents[other].stage = "paused"
    entries = tuple(map(app.library.catalogue.entry, (app.document_id, other)))

    async def ask(pool: ThreadPoolExecutor) -> None:
        answer = Reply(app, pool, Inquiry(entries, "Why?", named=named, max_tokens=1))
        if named:
            with pytest.raises(Refused, match="“b” has not been read") as caught:
                await answer.begin()
            assert caught.value.status == 409 and app.questions.asked == []
        else:
            await answer.begin()
            await answer.finish()
            assert app.questions.asked[0].documents == (app.document_id, other)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(pool))


@contextmanager
def listening(app: FakeApp) -> Iterator[httpx.Client]:
    """The routes on a real socket, where a client can really go."""
    api = Api(app)
    server = uvicorn.Server(
        uvicorn.Config(FastAPI(routes=api.routes, lifespan=api.lifespan), port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": "Bearer fake-key"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1/", headers=headers, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


BODIES = {
    "chat/completions": {"messages": [{"role": "user", "content": "Why?"}]},
    "responses": {"input": "Why?"},
    "messages": {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100_000},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_client_that_hangs_up_ends_the_stream(app: FakeApp, path: str) -> None:
    body = {**BODIES[path], "model": app.document_id, "stream": True}
    with listening(app) as client:
        with client.stream("POST", path, json=body) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert any("word" in line for line in response.iter_lines())
        assert app.questions.ended.wait(PATIENCE_SECONDS)


def test_a_client_that_hangs_up_ends_what_it_waits_for(app: FakeApp) -> None:
    body = {**BODIES["responses"], "model": app.document_id}
    with listening(app) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("responses", json=body, timeout=0.5)
        assert app.questions.ended.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("path", BODIES)
def test_a_bug_is_told_by_its_id_alone(app: FakeApp, path: str) -> None:
    app.questions.failure = ValueError("a secret of the program")
    with listening(app) as client:
        told = client.post(path, json={**BODIES[path], "model": app.document_id})
        assert told.status_code == 500 and "Something went wrong (id " in told.text and "secret" not in told.text


def test_without_the_extra_the_command_says_how_to_get_it(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "ui.api.mcp_tools", raising=False)
    with pytest.raises(BadSetting, match="is not installed") as caught:
        run_app.speak_mcp(app)
    assert "[mcp]" in caught.value.hint
    monkeypatch.setattr("ui.api.server.find_spec", lambda name: None)
    assert [route.path for route in Api(app).routes] == ["/v1"]
