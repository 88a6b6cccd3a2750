"""The way of a page to its replicas: what is lost is asked for elsewhere, and what cannot be done is said."""

import json
from collections.abc import Callable

import httpx
import pytest

from app.cluster import line
from app.cluster.line import AGAIN, Line, ReplicasAway
from app.cluster.wire import ReplicaFailed, Values
from storage import StorageFull

END = '{"end": true}\n'


def line_to(answer: Callable[[httpx.Request], httpx.Response]) -> Line:
    found = Line("http://replicas", "a/model", "key")
    found._client = httpx.Client(transport=httpx.MockTransport(answer))
    return found


def test_a_replica_of_another_version_is_passed_over_and_a_broken_stream_begun_again() -> None:
    asked: list[tuple[str, int]] = []
    answers = [
        httpx.Response(409),
        httpx.Response(503),
        httpx.Response(200, text='{"token": [1, 0]}\n'),
        httpx.Response(200, text='\n{"token": [1, 0]}\n{"token": [2, 0]}\n' + END),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.headers["x-session-id"], json.loads(request.content)["turn"]))
        return answers[len(asked) - 1]

    turns = iter(range(9))
    events = list(line_to(answer).events("answer/answer", "doc", lambda: {"turn": next(turns)}))
    first: Values = {"token": [1, 0]}
    assert events == [AGAIN, AGAIN, first, AGAIN, {}, first, {"token": [2, 0]}]
    assert asked == [("doc", 0), ("doc#1", 1), ("doc#1", 2), ("doc#1", 3)]


def test_what_a_replica_says_that_went_wrong_is_raised() -> None:
    said = iter(
        ('{"error": "StorageFull", "numbers": [5, 3]}\n', '{"error": "", "message": "No.", "hint": "Do this."}\n')
    )
    found = line_to(lambda request: httpx.Response(200, text=next(said) + END))
    with pytest.raises(StorageFull, match="5 bytes needed"):
        list(found.events("read/read", "", dict))
    with pytest.raises(ReplicaFailed, match="No"):
        list(found.events("read/read", "", dict))


def test_replicas_that_are_away_for_too_long_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "PATIENCE_SECONDS", 0.0)
    found = line_to(lambda request: httpx.Response(200, text='{"away": "the store is away"}\n'))
    with pytest.raises(ReplicasAway, match="the store is away"):
        list(found.events("answer/load", "", dict))
    with pytest.raises(ReplicasAway, match="home's key"):
        list(line_to(lambda request: httpx.Response(401)).events("answer/load", "", dict))
