"""The line: how a page asks the replicas of one model, over HTTP, and goes on with another one where one is lost."""

import json
import logging
import re
import time
from collections.abc import Callable, Generator
from contextlib import closing

import httpx

from app.cluster.wire import Values, raise_failure
from app.errors import AppError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
"""How long no replica may be there, or their store, before whoever waits is told."""
_CONNECT_SECONDS, _SILENT_SECONDS = 10.0, 60.0
"""A replica that lives says so every few seconds."""
_MOST_PAUSE_SECONDS = 2.0
AGAIN: Values = {"again": True}
"""What comes once more from its beginning, since the replica that was at work is lost."""


class ReplicasAway(AppError):
    """No replica answers, or none reaches the store."""


class _Lost(Exception):
    """A replica, or the way to it, before all was said."""


class _Elsewhere(Exception):
    """A replica of another version, or of another model."""


class Line:
    """The replicas of one model, behind one address. Several threads may use it."""

    def __init__(self, address: str, model: str, key: str) -> None:
        self._at = f"{address.rstrip('/')}/{slug(model)}"
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=_SILENT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None),
            # Whatever proxy the user has, the replicas are not behind it.
            trust_env=False,
        )

    def facts(self) -> Values:
        """What a replica says of its model. Raises ReplicasAway."""
        return next(event for event in self.events("answer/facts", "", dict) if "model" in event)

    def events(self, verb: str, route: str, body: Callable[[], Values]) -> Generator[Values, None, None]:
        """What a replica says, line by line; now and then nothing, while it works. What is of one `route` comes to one
        replica while it is there and has time.

        Where it is lost another one is asked, with what `body` gives then, and AGAIN comes first. Raises ReplicasAway
        after PATIENCE_SECONDS without a word, and what the replica says that went wrong.
        """
        ends, pause, elsewhere = time.monotonic() + PATIENCE_SECONDS, 0.05, 0
        while True:
            why: Exception
            try:
                with closing(self._once(verb, f"{route}#{elsewhere}" if elsewhere else route, body())) as events:
                    for event in events:
                        ends, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
                        yield event
                return
            except httpx.ReadTimeout as waiting:
                # Replicas are at work on others: that is none that is lost.
                why, ends = waiting, time.monotonic() + PATIENCE_SECONDS
            except _Elsewhere as other:
                why, elsewhere = other, elsewhere + 1
            except (httpx.TransportError, _Lost) as lost:
                why = lost
            if time.monotonic() > ends:
                hint = "Look at docpod cluster status, and at the logs of the replicas."
                raise ReplicasAway(f"No replica could do it: {why or type(why).__name__}.", hint) from why
            log.warning("another replica is asked: %s", why or type(why).__name__)
            time.sleep(pause)
            pause = min(2 * pause, _MOST_PAUSE_SECONDS)
            yield AGAIN

    def _once(self, verb: str, route: str, body: Values) -> Generator[Values, None, None]:
        headers = {"x-session-id": route} if route else {}
        with self._client.stream("POST", f"{self._at}/{verb}", json=body, headers=headers) as response:
            if response.status_code == httpx.codes.CONFLICT:
                raise _Elsewhere("it is of another version, or has another model")
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND):
                what = "They do not take this home's key." if response.status_code == 401 else "There are none there."
                raise ReplicasAway(f"No replicas at {self._at}: {what}", "Look at docpod cluster status.")
            if response.status_code != httpx.codes.OK:
                raise _Lost(f"status {response.status_code}")
            for line in response.iter_lines():
                # An empty one only says that it lives.
                event: Values = json.loads(line or "{}")
                if "end" in event:
                    return
                if "away" in event:
                    raise _Lost(event["away"])
                raise_failure(event)
                yield event
        raise _Lost("it ended before all was said")


def slug(model: str) -> str:
    """A model's choice as a part of an address."""
    return re.sub(r"[^\w.]+", "-", model).strip("-")
