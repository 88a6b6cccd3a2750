"""A file over plain HTTPS that goes on where it stopped: neither a broken connection nor an earlier start is lost."""

import base64
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 18
_STEP_BYTES = 10_000_000
_RANGE_NOT_SATISFIABLE = 416


class NoAnswer(OSError):
    """A server that cannot be reached or refuses; `status` is its HTTP status, 0 where there was none."""

    def __init__(self, url: str, error: Exception) -> None:
        self.status = error.code if isinstance(error, HTTPError) else 0
        reason = error.reason if isinstance(error, URLError) and not self.status else error
        super().__init__(f"{urlsplit(url).hostname}: {reason}")


def request(url: str, **headers: str) -> HTTPResponse:
    """The open answer to a GET; a name and a password in the URL are sent to its own host alone. Raises NoAnswer."""
    parts = urlsplit(url)
    asked = Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers=headers)
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        asked.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    try:
        answer: HTTPResponse = urlopen(asked, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        raise NoAnswer(url, error) from error
    except (OSError, HTTPException) as error:
        raise NoAnswer(url, error) from error
    return answer


def said(on_progress: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    """Says how far a download of something has come, every few megabytes."""
    steps = -1

    def show(have: int, total: int) -> None:
        nonlocal steps
        if have // max(_STEP_BYTES, total // 100) > steps:
            steps = have // max(_STEP_BYTES, total // 100)
            on_progress(f"Fetching {what}, once: {have / 1e6:,.0f} of {total / 1e6:,.0f} MB.")

    return show


def download(url: str, target: Path, on_bytes: Callable[[int, int], None]) -> None:
    """Fetch `url` to `target` by way of `target` + `.part`, which a later call goes on with.

    `on_bytes` gets the bytes that are there and the bytes there will be. What arrives is not checked here.
    Raises NoAnswer once a connection brings nothing more.
    """
    part = target.with_name(f"{target.name}.part")
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, before, on_bytes)
            part.replace(target)
            return
        except NoAnswer as error:
            if error.status != _RANGE_NOT_SATISFIABLE or not before:
                raise
            # The part is as long as the file, or longer: it is of something else.
            part.unlink()
        except (ConnectionError, TimeoutError, HTTPException) as error:
            if not part.exists() or part.stat().st_size <= before:
                raise NoAnswer(url, error) from error


def _continue(url: str, part: Path, before: int, on_bytes: Callable[[int, int], None]) -> None:
    with request(url, Range=f"bytes={before}-") as answer:
        # A server that knows no ranges sends everything again.
        have = before if answer.status == 206 else 0
        total = have + int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if have else "wb") as out:
            while chunk := answer.read(_CHUNK_BYTES):
                out.write(chunk)
                have += len(chunk)
                on_bytes(have, max(have, total))
    if have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")
