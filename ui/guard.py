"""The guard before every route: strangers, other hosts and sites, and unneeded routes are refused, and headers set."""

from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.access import Access, Viewer, is_keyed, is_public
from ui.content_policy import content_policy, with_nonce
from ui.door import Door
from ui.originals import FRAME_HEADERS

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CLOSED_ROUTES = ("file", "proxy", "monitoring", "stream", "deep_link", "process_recording", "vibe", "dev", "runs")
"""Routes of Gradio that this page never uses: files, proxies, monitoring."""

HEADERS = {
    "Content-Security-Policy": content_policy(),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """ASGI middleware in front of every route, ours and Gradio's.

    400 for a foreign Host, 403 for a request that another site caused or that says itself who is signed in, 404 for a
    closed route; then whoever sends it is told apart (`ui.access`): nobody gets the door, others what their role has.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access
        self.door = Door(access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses or passes on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope["viewer"] = viewer = self.access.viewer(scope)

        if scope["path"] == "/" and scope.get("method") == "GET":
            send = with_nonce(send)
        own = {**HEADERS, **(FRAME_HEADERS if scope["path"].startswith("/pdf-viewer/") else {})}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in own.items():
                    headers[name] = value
            await send(message)

        answer = await self._answer(scope, receive, viewer)
        if answer is not None:
            await answer(scope, receive, send_with_headers)
        elif viewer is None or viewer.is_home:
            await self.app(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, self._while_shared(scope, send_with_headers))

    async def _answer(self, scope: Scope, receive: Receive, viewer: Viewer | None) -> Response | None:
        """What is answered in place of the route; None where it may answer."""
        refusal = self._refusal(scope)
        path = scope["path"]
        if refusal or is_public(path):
            return refusal
        if is_keyed(path) and not self.access.is_shared(Headers(scope=scope).get("host", "")):
            return None
        if scope["type"] == "http":
            request = Request(scope, receive)
            if path == "/enter" and request.method == "POST":
                return await self.door.enter(request)
            if path == "/hand-over" and request.method == "POST":
                return await self.door.hand_over(request)
            if path == "/leave" and request.method == "POST":
                return RedirectResponse("/", 303, {"Set-Cookie": self.access.leave(scope)})
            if path == "/" and request.method == "GET":
                key = request.query_params.get("key", "")
                shared = self.access.is_shared(request.headers.get("host", ""))
                if key and not shared:
                    return await self.door.enter(request)
                if viewer is None:
                    # Whatever looks at a link before its reader does must not use it up: he presses a button.
                    return self.door.page(request, key)
        if viewer is None:
            return PlainTextResponse("This is private.", 401)
        if not viewer.may_open(path):
            return PlainTextResponse("This is not shared with you.", 403)
        page = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        if page and not viewer.holds(page):
            return PlainTextResponse("This page belongs to somebody else.", 403)
        return None if viewer.may_go_on() else PlainTextResponse("Too many requests. Wait a minute.", 429)

    def _while_shared(self, scope: Scope, send: Send) -> Send:
        """Sends as long as the visitor is one; a stream ends with the sharing."""
        ended = False

        async def send_or_end(message: Message) -> None:
            nonlocal ended
            if ended:
                return
            if self.access.viewer(scope) is None:
                ended = True
                if message["type"] == "http.response.start":
                    await send({"type": "http.response.start", "status": 401, "headers": []})
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return send_or_end

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.access.is_home(host) and not self.access.is_shared(host):
            return PlainTextResponse("This address is not served here.", 400)
        if self.access.is_forged(scope):
            return PlainTextResponse("Who is signed in is not believed from this address.", 403)
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return PlainTextResponse("Requests of other sites are refused.", 403)
        route = scope["path"].strip("/").removeprefix("gradio_api/")
        if route.startswith(CLOSED_ROUTES):
            return PlainTextResponse("There is nothing here.", 404)
        return None
