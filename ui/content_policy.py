"""What the page may load and run: its own files, and of inline scripts those that it was sent with."""

import secrets
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from ui.theme import SCRIPTS

_OWN = " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in SCRIPTS)
"""Gradio puts them into the page itself, where nothing but what they are tells them."""


def content_policy(nonce: str = "") -> str:
    """The Content-Security-Policy of everything that is served; of a page whose inline scripts carry a nonce with that.

    No other script inside a page runs, and no handler in an attribute. `unsafe-eval` stays: Gradio compiles the
    templates of gr.HTML, and the scripts given to events, in the browser.
    """
    inline = f"{_OWN} 'nonce-{nonce}'" if nonce else ""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'unsafe-eval' {inline}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "media-src 'none'",
            "object-src 'none'",
            "frame-src 'self'",
            "worker-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def with_nonce(send: Send) -> Send:
    """Sends an HTML page whose scripts, those that its own markup has, carry a nonce that its policy names."""
    start: Message = {}
    body = bytearray()

    async def send_page(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=start)
        page = bytes(body)
        if headers.get("content-type", "").startswith("text/html"):
            nonce = secrets.token_urlsafe(16)
            page = _marked(page.decode(), nonce).encode()
            headers["Content-Security-Policy"] = content_policy(nonce)
            headers["Content-Length"] = str(len(page))
        await send(start)
        await send({**message, "body": page})

    return send_page


class _Scripts(HTMLParser):
    """Where the scripts of a page begin; what stands inside of one is none."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.lines.append(self.getpos())


def _marked(page: str, nonce: str) -> str:
    found = _Scripts()
    found.feed(page)
    lines = page.split("\n")
    for line, column in reversed(found.lines):
        text, behind = lines[line - 1], column + len("<script")
        lines[line - 1] = f'{text[:behind]} nonce="{nonce}"{text[behind:]}'
    return "\n".join(lines)
