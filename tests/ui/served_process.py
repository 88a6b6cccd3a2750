"""A server as its user starts it: a process of its own, found by its port, ended by a signal."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 300.0


def unused_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], home: Path, port: int, *options: str) -> Iterator[str]:
    """Runs `command --port PORT --home DIR ...` and gives the address that it prints, which lets its user in."""
    log = home.with_name(f"{home.name}.log")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DOCPOD_MEANING": "false", "DOCPOD_PREPARE": "false"}
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--home", str(home), *options],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _address(port, process, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(port: int, process: subprocess.Popen[bytes], log: Path) -> str:
    """The last one that was printed: a server before this one may have written to the same file."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text(encoding='utf-8')}")
        for address in reversed(re.findall(rf"http://127\.0\.0\.1:{port}/\?key=\S+", log.read_text(encoding="utf-8"))):
            # A key of a server that has ended opens nothing.
            with suppress(httpx.TransportError):
                if httpx.get(address, trust_env=False).status_code == 303:
                    return address
        time.sleep(0.1)
    raise TimeoutError(f"no server after {START_SECONDS} s: {log.read_text(encoding='utf-8')}")


@contextmanager
def at_home(url: str) -> Iterator[httpx.Client]:
    """A client that came in by the printed address, as a browser does."""
    with httpx.Client(base_url=url.partition("?")[0], trust_env=False) as client:
        assert client.get(f"/?{url.partition('?')[2]}").status_code == 303
        yield client
