"""The guard in front of every route: other hosts, other sites and unneeded routes are refused, and headers set."""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CLOSED_ROUTES = ("file", "proxy", "monitoring", "stream", "deep_link", "process_recording", "vibe", "dev", "runs")
"""Routes of Gradio that this page never uses: files, proxies, monitoring."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio's start page has inline scripts, and it compiles the templates of gr.HTML in the browser.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "media-src 'none'",
        "object-src 'none'",
        "frame-src 'none'",
        "worker-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """ASGI middleware: 400 for a foreign Host, 403 for a request that another site caused, 404 for a closed route."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.open_to_network = host not in ("127.0.0.1", "localhost", "::1")
        self.names = {"127.0.0.1", "localhost", "::1", host.lower()}
        if self.open_to_network:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses or passes on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse("This address is not served here.", 400)
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
            if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return PlainTextResponse("Requests of other sites are refused.", 403)
        route = scope["path"].strip("/").removeprefix("gradio_api/")
        if route.startswith(CLOSED_ROUTES):
            return PlainTextResponse("There is nothing here.", 404)
        return None

    def _is_ours(self, host: str) -> bool:
        """A name can be made to point at this machine by anyone (DNS rebinding); a plain IP address cannot."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.open_to_network
