"""Sharing: chosen documents for others, by a link or on the local network, for as long as their owner wants."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock, RLock, Timer
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

from app.credentials import Allowance, Password, digest, equal_digest
from app.errors import NotAllowed, NotShared
from storage import Viewer

QUESTIONS_A_MINUTE = 6
"""Of one visitor; of all together four times that."""
REQUESTS_A_MINUTE = 600
"""Of one visitor: an open page sends 60, a page that is turned one."""
ATTEMPTS_A_MINUTE = 10
"""To come in with a password or a used link, by anybody: few enough that guessing leads nowhere."""
MOST_VISITORS = 50
HERE_SECONDS = 30.0
"""Whoever sent nothing for longer has closed the page."""
log = logging.getLogger(__name__)


class Road(Protocol):
    """A way by which others reach the page: a tunnel, or the local network."""

    label: str
    """What it is called on the page."""

    def open(self) -> str:
        """The address that others open, such as `https://name.example`. Raises NotShared."""

    def close(self) -> None:
        """Nobody comes this way any longer; nothing happens where it is closed."""


@dataclass(frozen=True)
class Terms:
    """What is shared with whom for how long; with a password everyone who has it may come, else each with a link."""

    documents: frozenset[str]
    road: str = "link"
    may_ask: bool = True
    seconds: float = 86_400.0
    password: str = field(default="", repr=False)


@dataclass
class Visitor:
    """Someone who came in."""

    id: str
    name: str
    app: Any
    """As he has it."""
    requests: Allowance
    seen_at: float


@dataclass(frozen=True)
class ShareState:
    """What the page shows of a share that runs."""

    terms: Terms
    by_password: bool
    address: str
    link: str
    """The newest invitation; with a password the address alone."""
    link_is_used: bool
    seconds_left: float
    visitors: tuple[tuple[str, str, bool], ...]
    """Id, name, and whether he is here now."""


class _Share:
    """One run of sharing."""

    def __init__(self, terms: Terms, address: str, ends_at: float, clock: Callable[[], float]) -> None:
        self.terms = replace(terms, password="")
        self.address = address
        self.host = urlsplit(address).netloc.lower()
        self.ends_at = ends_at
        self.password = Password(terms.password) if terms.password else None
        self.invitations: set[str] = set()
        self.link = address
        self.visitors: dict[str, Visitor] = {}
        """By the digest of what their cookie holds."""
        self.attempts = Allowance(ATTEMPTS_A_MINUTE, clock)
        self.questions = Allowance(4 * QUESTIONS_A_MINUTE, clock)


class Sharing:
    """At most one share at a time, in memory only. Safe under several threads.

    The conversations of visitors last as long as the share.
    """

    def __init__(
        self,
        seen_by: Callable[..., Any],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.roads: dict[str, Road] = {}
        """By name; whoever serves the page knows them."""
        self._seen_by = seen_by
        self._clock = clock
        self._starting = Lock()
        self._lock = RLock()
        self._stops = 0
        """How often sharing was stopped, so that what is being opened meanwhile is not kept."""
        self._share: _Share | None = None
        self._timer: Timer | None = None

    def start(self, terms: Terms) -> None:
        """Share; what was shared before no longer is. Raises NotShared."""
        with self._starting:
            self.stop()
            if not terms.documents:
                raise NotShared("There is no document to share.", "Choose at least one on the page.")
            road = self.roads.get(terms.road)
            if road is None:
                raise NotShared("DocPod does not listen there.", "Start it with --listen to share on the network.")
            stops = self._stops
            # This may take half a minute, during which others are not held up.
            share = _Share(terms, road.open(), self._clock() + terms.seconds, self._clock)
            with self._lock:
                if stops != self._stops:
                    road.close()
                    raise NotShared("Sharing was stopped.", "Start it again when you like.")
                self._share = share
                if not terms.password:
                    self.invite()
                self._timer = Timer(terms.seconds, self.stop)
                self._timer.daemon = True
                self._timer.start()
        log.info("sharing %d documents by %s", len(terms.documents), terms.road)

    def invite(self) -> str:
        """A link that lets one person in. Raises NotShared."""
        with self._lock:
            share = self._running()
            if share is None:
                raise NotShared("Nothing is shared at the moment.", "Start sharing first.")
            key = secrets.token_urlsafe(24)
            share.invitations.add(digest(key))
            share.link = f"{share.address}/?key={key}"
            return share.link

    def admit(self, key: str, password: str, name: str) -> str:
        """Let someone in who has a link or the password; returns what his cookie holds. Raises NotAllowed."""
        with self._lock:
            share = self._running()
            if share is None:
                raise NotAllowed("Nothing is shared here at the moment.", "Ask for a new link.")
            if not share.attempts.take():
                raise NotAllowed("Too many attempts.", "Wait a minute and try again.")
            if len(share.visitors) >= MOST_VISITORS:
                raise NotAllowed("There is no room for a further visitor.", "Ask for a new link later.")
            if share.password and not share.password.matches(password):
                raise NotAllowed("This is not the password.", "Check it and try again.")
            if not share.password:
                invitation = equal_digest(key, share.invitations)
                if not invitation:
                    raise NotAllowed("This link was used or is not valid.", "Ask for a new one; each lets one in.")
                share.invitations.remove(invitation)
            return self._enter(share, name)

    def visitor(self, host: str, cookie: str) -> Visitor | None:
        """Who holds this cookie, if he comes the way that is shared."""
        with self._lock:
            share = self._running()
            if share is None or not self.is_here(host):
                return None
            visitor = share.visitors.get(digest(cookie))
            if visitor:
                visitor.seen_at = self._clock()
            return visitor

    def is_here(self, host: str) -> bool:
        """Whether a Host header names the address that is shared."""
        share = self._running()
        return share is not None and host.lower() == share.host

    def needs_password(self) -> bool:
        """Whether visitors come in by a password."""
        share = self._running()
        return share is not None and bool(share.password)

    def is_secure(self) -> bool:
        """Whether visitors come by HTTPS."""
        share = self._running()
        return share is not None and share.address.startswith("https:")

    def remove(self, visitor_id: str) -> None:
        """Show a visitor out; his conversations go with him."""
        with self._lock:
            share = self._running()
            visitors = share.visitors if share else {}
            for cookie in [cookie for cookie, each in visitors.items() if each.id == visitor_id]:
                visitors.pop(cookie).app.end()

    def state(self) -> ShareState | None:
        """None while nothing is shared."""
        with self._lock:
            share = self._running()
            if share is None:
                return None
            now = self._clock()
            return ShareState(
                share.terms,
                bool(share.password),
                share.address,
                share.link,
                not share.password and digest(share.link.rpartition("=")[2]) not in share.invitations,
                share.ends_at - now,
                tuple((each.id, each.name, now - each.seen_at < HERE_SECONDS) for each in share.visitors.values()),
            )

    def stop(self) -> None:
        """Share nothing: the way is closed, visitors are out, and their conversations are forgotten."""
        with self._lock:
            share, self._share = self._share, None
            self._stops += 1
            if self._timer:
                self._timer.cancel()
            if share is None:
                return
            self.roads[share.terms.road].close()
            for visitor in share.visitors.values():
                visitor.app.end()
            log.info("sharing has ended")

    def _running(self) -> _Share | None:
        share = self._share
        return share if share and self._clock() < share.ends_at else None

    def _enter(self, share: _Share, name: str) -> str:
        visitor_id, cookie = secrets.token_hex(8), secrets.token_urlsafe(32)
        allowances = Allowance(QUESTIONS_A_MINUTE, self._clock), share.questions
        viewer = Viewer(visitor_id, has_all=False, only=share.terms.documents)
        app = self._seen_by(viewer, "visitor", may_ask=share.terms.may_ask, allowances=allowances)
        known = " ".join(name.split())[:40] or f"Visitor {len(share.visitors) + 1}"
        requests = Allowance(REQUESTS_A_MINUTE, self._clock)
        share.visitors[digest(cookie)] = Visitor(visitor_id, known, app, requests, self._clock())
        log.info("a visitor came in")
        return cookie
