"""The one page of a home: a second start hands its files over to the first, which comes to the front."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from app.errors import Busy

_FILE = "page.json"
_PATIENCE_SECONDS = 20.0
"""How long a first start may take to serve its page; a hand-over itself is quick."""


@contextmanager
def announced(home: Path, address: str, key: str) -> Iterator[None]:
    """While the page is served, a second start of the same user finds it."""
    path = home / _FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"address": address, "key": key}, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def hand_over(home: Path, files: Sequence[Path], patience: float = _PATIENCE_SECONDS) -> None:
    """Have the page that another process serves take the files, and come to the front. Raises Busy."""
    ends_at = time.monotonic() + patience
    body = json.dumps({"files": [str(path.absolute()) for path in files]}).encode()
    while True:
        try:
            page = json.loads((home / _FILE).read_text(encoding="utf-8"))
            headers = {"Authorization": f"Bearer {page['key']}", "Content-Type": "application/json"}
            # Whatever proxy the user has, this machine is not behind it.
            with build_opener(ProxyHandler({})).open(
                Request(f"{page['address']}/hand-over", body, headers), timeout=10
            ):
                return
        except (FileNotFoundError, json.JSONDecodeError, URLError) as error:
            if time.monotonic() > ends_at:
                hint = "Close it, or choose another folder with --home."
                raise Busy(f"DocPod runs on {home} already, and its page does not answer.", hint) from error
            time.sleep(0.1)
