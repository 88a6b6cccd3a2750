"""Access: a key in front of every route of the API, how often it may be used, and how much it may send."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.credentials import Allowance
from app.keys import SCOPES, Key
from app.main import App
from ui.api.refusals import Refused

REQUESTS_A_MINUTE = 240
"""Of one key: a program that waits for a document asks for its status every other second."""


@dataclass(frozen=True)
class Caller:
    """A program by its key, and the app as the owner of the key has it."""

    key: Key
    app: App

    def demand(self, scope: str) -> None:
        """Raises Refused where the key may not do that."""
        if scope not in self.key.scopes:
            message = f"This key may not {SCOPES[scope]}: it lacks the scope {scope!r}."
            raise Refused(403, "scope", message, f"Make one that has it: docpod keys create NAME --scopes {scope}.")


class Keyed:
    """ASGI middleware: 401 without a known key, 429 for one that is used too often, 413 for a body that is too large.

    What is behind it finds the caller in the state of the request.
    """

    def __init__(self, api: ASGIApp, app: App, max_bytes: int) -> None:
        self._api, self._app, self._max_bytes = api, app, max_bytes
        self._allowances: dict[str, Allowance] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses or passes on."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            caller = await run_in_threadpool(self._caller, headers)
            self._count(caller.key)
            if int(headers.get("content-length", "0")) > self._max_bytes:
                raise self._too_large()
        except Refused as refusal:
            await refusal.response(headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._too_large().message)
            return message

        await self._api(scope, limited, send)

    def _caller(self, headers: Headers) -> Caller:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        given = secret.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if not given:
            raise Refused(401, "no_key", "A key is needed.", "Make one: docpod keys create NAME. Send it as Bearer.")
        key = self._app.keys.key_of(given)
        app = self._app.people.app_of(key.owner) if key and key.owner else self._app
        if key is None or app is None:
            raise Refused(
                401, "wrong_key", "This key is not known, or was revoked.", "Make one: docpod keys create NAME."
            )
        return Caller(key, app)

    def _count(self, key: Key) -> None:
        if not self._allowances.setdefault(key.id, Allowance(REQUESTS_A_MINUTE)).take():
            message = f"This key was used more than {REQUESTS_A_MINUTE} times a minute."
            raise Refused(429, "too_often", message, "Wait a little.")

    def _too_large(self) -> Refused:
        message = f"More than {self._max_bytes / 1e6:,.0f} MB were sent."
        return Refused(413, "too_large", message, "Raise the limit with --max-upload-mb.")


def _demanding(scope: str) -> Callable[[Request], Caller]:
    def check(request: Request) -> Caller:
        caller: Caller = request.state.caller
        caller.demand(scope)
        return caller

    return check


MayRead = Annotated[Caller, Depends(_demanding("read"))]
MayAsk = Annotated[Caller, Depends(_demanding("ask"))]
MayWrite = Annotated[Caller, Depends(_demanding("write"))]
