"""Access: who sends a request, and what he may have of the page; the one place where that is decided.

The home's user comes with the key that the start printed, or with the home's password, and then holds a cookie that is
good after a restart too; people with their names and passwords, or named by a proxy that is trusted; visitors of a
share with a link or the share's password, whose cookies are known by digests in memory. Nobody else has anything.
"""

import ipaddress
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import Scope

from app.credentials import Allowance, Password, digest
from app.errors import NotAllowed
from app.main import App
from ui.language import speaking

PUBLIC_ROUTES = (
    "/manifest.json",
    "/pwa_icon",
    "/pwa_icon/{size}",
    "/favicon.ico",
    "/robots.txt",
    # The frame in which PDFs are shown: a library that everybody can have, and none of them.
    "/pdf-viewer/{path:path}",
    # Gradio asks itself for it when it starts.
    "/gradio_api/startup-events",
)
"""For everybody: they tell that DocPod runs here, and nothing else."""
KEYED_ROUTES = ("/v1/{path:path}", "/mcp")
"""For programs of this machine, which show a key of their own there (`ui.api`)."""
VISITOR_ROUTES = (
    "/",
    "/config",
    "/theme.css",
    "/gradio_api/theme.css",
    "/assets/{path:path}",
    "/static/{path:path}",
    "/svelte/{path:path}",
    "/gradio_api/info",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/gradio_api/run/{api_name}",
    "/export/{form}/{conversation_id}",
    "/original/{document_id}",
)
"""For visitors too."""
MEMBER_ROUTES = (*VISITOR_ROUTES, "/gradio_api/upload", "/gradio_api/upload_progress", "/archive/{document_id}")
"""For members too; all others are for owners alone."""
VISITOR_EVENTS = frozenset(
    (
        *("load", "tick", "open", "several", "search", "cite", "cite_live", "turn", "contents"),
        *("ask", "regenerate", "stop", "stop_waiting", "conversation", "conversation_new"),
        *("conversation_delete", "conversation_undo", "conversation_rename", "conversation_copy", "edit", "edit_leave"),
    )
)
"""Events of the page that visitors may cause."""
MEMBER_EVENTS = VISITOR_EVENTS.union(
    ("upload", "act", "act_welcome", "act_head", "act_order", "delete", "delete_several", "collections")
)
"""Events of the page that members may cause; all others are for owners alone."""
CODE_SECONDS = 300.0
"""How long the address that a browser is opened with may take to be opened."""
MOST_PAGES = 10_000
SECRET = "page.secret"

_view: ContextVar[App] = ContextVar("view")


def current_view() -> App:
    """The app as whoever caused the running event has it. Raises LookupError outside of an event."""
    return _view.get()


@contextmanager
def acting(app: App) -> Iterator[None]:
    """What runs inside has this view of the app."""
    before = _view.set(app)
    try:
        yield
    finally:
        _view.reset(before)


@dataclass(frozen=True)
class Viewer:
    """Whoever sent a request: the home's user, whose id is empty, a person or a visitor."""

    id: str
    app: App
    """As he has it."""
    holds: Callable[[str], bool]
    """Whether an open page, by its session hash, is his: the first who uses one has it."""
    may_go_on: Callable[[], bool]
    """Takes one of the requests that he has in a minute."""

    @property
    def is_home(self) -> bool:
        """Whether he is at home here."""
        return not self.id

    def may_open(self, path: str) -> bool:
        """Whether a route is for him."""
        routes = {"visitor": VISITOR_ROUTES, "member": MEMBER_ROUTES}.get(self.app.role)
        return routes is None or _matches(path, routes)

    def may_cause(self, event: str | None) -> bool:
        """Whether an event of the page is his to cause."""
        events = {"visitor": VISITOR_EVENTS, "member": MEMBER_EVENTS}.get(self.app.role)
        return events is None or event in events


class GuardedBlocks(gr.Blocks):
    """Blocks whose every event, queued or not, runs with the view of whoever caused it."""

    async def process_api(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Raises gr.Error for an event that is not the viewer's to cause."""
        sent: Any = getattr(named.get("request"), "request", None)
        viewer = sent.scope.get("viewer") if sent else None
        event = named["block_fn"].api_name
        if viewer is None or not viewer.may_cause(event):
            raise gr.Error("This is not shared with you.", print_exception=False)
        if not viewer.holds(named.get("session_hash") or ""):
            raise gr.Error("This page belongs to somebody else.", print_exception=False)
        with acting(viewer.app), speaking(sent.headers.get("accept-language", "")):
            return await super().process_api(*arguments, **named)


class Access:
    """Keys, cookies and sessions of one served page. Used by the server's one event loop."""

    def __init__(self, app: App, port: int, password: str = "", clock: Callable[[], float] = monotonic) -> None:
        self.app = app
        self.key = secrets.token_urlsafe(32)
        self.on_hand_over: Callable[[Sequence[Path]], None] = lambda files: None
        """What a second start asks for: to add files, and to come to the front."""
        self._cookie_name = f"docpod-{port}"
        self._clock = clock
        self._password = Password(password) if password else None
        self._attempts = Allowance(10, clock)
        self._codes: dict[str, float] = {}
        self._cookie_value = digest(f"{_secret(app.settings.home)} {password}")
        self._pages: OrderedDict[str, str] = OrderedDict()
        own = app.settings.host.lower()
        self._names = {"127.0.0.1", "localhost", "::1"}
        self._any_address = own not in self._names
        self._names.add(own)
        self._names.update(each.strip().lower() for each in app.settings.names.split(",") if each.strip())
        self._header = app.settings.trusted_header.lower()

    @property
    def has_password(self) -> bool:
        """Whether the home's user may come with a password."""
        return self._password is not None

    def code(self) -> str:
        """A key that opens the page once and soon: a browser's command line is seen by other users of the machine."""
        code = secrets.token_urlsafe(32)
        self._codes[digest(code)] = self._clock() + CODE_SECONDS
        return code

    def is_key(self, key: str) -> bool:
        """Whether this is the key of the start."""
        return compare_digest(key.encode(), self.key.encode())

    @property
    def has_people(self) -> bool:
        """Whether somebody may come with a name and a password."""
        return any(each.password for each in self.app.people.all())

    def enter(self, key: str = "", password: str = "", name: str = "") -> str:
        """Let the home's user or a person in; returns the cookie's value. Raises NotAllowed."""
        if name and not key:
            return self.app.people.sign_in(name, password)
        if key:
            ends_at = self._codes.pop(digest(key), 0.0)
            if not self.is_key(key) and ends_at < self._clock():
                raise NotAllowed("This address was used already, or is of an earlier start.", "Open DocPod anew.")
        else:
            if not self._attempts.take():
                raise NotAllowed("Too many attempts.", "Wait a minute and try again.")
            if self._password is None or not self._password.matches(password):
                raise NotAllowed("This is not the password.", "Check it and try again.")
        return self._cookie_value

    def set_cookie(self, value: str, secure: bool) -> str:
        """The header that gives it to the browser. Its name has the port, since cookies of all ports are one jar."""
        return f"{self._cookie_name}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"

    def is_home(self, host: str) -> bool:
        """Whether a Host header names this machine as its user calls it.

        A name can be made to point at this machine by anyone (DNS rebinding); a plain IP address cannot, and is taken
        where the page listens on the network.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if self.is_shared(host):
            return False
        return name in self._names or (self._any_address and _is_address(name))

    def is_shared(self, host: str) -> bool:
        """Whether a Host header names the address of a share that runs."""
        return self.app.sharing.is_here(host)

    def leave(self, scope: Scope) -> str:
        """Sign out whoever sends a request; the header that takes his cookie away."""
        self.app.people.sign_out(self._cookie(Headers(scope=scope).get("cookie", "")))
        return f"{self.set_cookie('', secure=False)}; Max-Age=0"

    def is_forged(self, scope: Scope) -> bool:
        """Whether a request says who is signed in and does not come from the proxy, or says it twice."""
        said = Headers(scope=scope).getlist(self._header) if self._header else []
        return bool(said) and (len(said) > 1 or not self.app.people.is_proxy((scope.get("client") or ("",))[0]))

    def viewer(self, scope: Scope) -> Viewer | None:
        """Who sends a request; None is nobody."""
        headers = Headers(scope=scope)
        host, cookie = headers.get("host", ""), self._cookie(headers.get("cookie", ""))
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if self.is_home(host) and (self._is_cookie(cookie) or self.is_key(key)):
            return Viewer("", self.app, lambda page: self._holds(page, ""), lambda: True)
        if visitor := self.app.sharing.visitor(host, cookie):
            may_go_on = visitor.requests.take
            return Viewer(visitor.id, visitor.app, lambda page: self._holds(page, visitor.id), may_go_on)
        if not self.is_home(host) or self.is_forged(scope):
            return None
        named = headers.get(self._header, "") if self._header else ""
        people = self.app.people
        person = people.brought(named) if named else people.signed_in(cookie) if cookie else None
        if person is None:
            return None
        return Viewer(person.id, people.app(person), lambda page: self._holds(page, person.id), lambda: True)

    def _is_cookie(self, value: str) -> bool:
        return compare_digest(value.encode(), self._cookie_value.encode())

    def _holds(self, page: str, viewer_id: str) -> bool:
        holder = self._pages.setdefault(page, viewer_id)
        self._pages.move_to_end(page)
        while len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return holder == viewer_id

    def _cookie(self, header: str) -> str:
        try:
            return SimpleCookie(header)[self._cookie_name].value
        except (CookieError, KeyError):
            return ""


def _secret(home: Path) -> str:
    """What the cookie of a home's user is made of, in a file of his alone; without it every browser asks anew."""
    path = home / SECRET
    with suppress(FileExistsError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, secrets.token_urlsafe(32).encode())
        os.close(file)
    return path.read_text("ascii")


def is_public(path: str) -> bool:
    """Whether a route is for everybody."""
    return _matches(path, PUBLIC_ROUTES)


def is_keyed(path: str) -> bool:
    """Whether a route asks for a program's key itself."""
    return _matches(path, KEYED_ROUTES)


def _matches(path: str, templates: tuple[str, ...]) -> bool:
    return any(compile_path(template)[0].match(path) for template in templates)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
