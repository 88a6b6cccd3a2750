"""Access: a key in front of every route of the API, how often it may be used, and how much it may send."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.credentials import Allowance
from app.keys import SCOPES, Key, Keys
from ui.api.refusals import Refused

REQUESTS_A_MINUTE = 240
"""Of one key: a program that waits for a document asks for its status every other second."""


class Keyed:
    """ASGI middleware: 401 without a known key, 429 for one that is used too often, 413 for a body that is too large.

    What is behind it finds the key in the state of the request.
    """

    def __init__(self, api: ASGIApp, keys: Callable[[], Keys], max_bytes: int) -> None:
        self._api, self._keys, self._max_bytes = api, keys, max_bytes
        self._allowances: dict[str, Allowance] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses or passes on."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            key = await run_in_threadpool(self._key, headers)
            self._count(key)
            if int(headers.get("content-length", "0")) > self._max_bytes:
                raise self._too_large()
        except Refused as refusal:
            await refusal.response(headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["key"] = key
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._too_large().message)
            return message

        await self._api(scope, limited, send)

    def _key(self, headers: Headers) -> Key:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        given = secret.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if not given:
            raise Refused(401, "no_key", "A key is needed.", "Make one: docpod keys create NAME. Send it as Bearer.")
        if (key := self._keys().key_of(given)) is None:
            raise Refused(
                401, "wrong_key", "This key is not known, or was revoked.", "Make one: docpod keys create NAME."
            )
        return key

    def _count(self, key: Key) -> None:
        if not self._allowances.setdefault(key.id, Allowance(REQUESTS_A_MINUTE)).take():
            message = f"This key was used more than {REQUESTS_A_MINUTE} times a minute."
            raise Refused(429, "too_often", message, "Wait a little.")

    def _too_large(self) -> Refused:
        message = f"More than {self._max_bytes / 1e6:,.0f} MB were sent."
        return Refused(413, "too_large", message, "Raise the limit with --max-upload-mb.")


def demand(key: Key, scope: str) -> None:
    """Raises Refused where the key may not do that."""
    if scope not in key.scopes:
        message = f"This key may not {SCOPES[scope]}: it lacks the scope {scope!r}."
        raise Refused(403, "scope", message, f"Make one that has it: docpod keys create NAME --scopes {scope}.")


def _demanding(scope: str) -> Callable[[Request], Key]:
    def check(request: Request) -> Key:
        key: Key = request.state.key
        demand(key, scope)
        return key

    return check


MayRead = Annotated[Key, Depends(_demanding("read"))]
MayAsk = Annotated[Key, Depends(_demanding("ask"))]
MayWrite = Annotated[Key, Depends(_demanding("write"))]
