"""A server as its user starts it: a process of its own, found by its port, ended by a signal."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent.parent
FAKE = (sys.executable, "-m", "tests.ui.fake_server")
START_SECONDS = 300.0


def unused_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], home: Path, port: int, *options: str) -> Iterator[str]:
    """Runs `command --port PORT --home DIR ...` and gives its address once it answers."""
    url = f"http://127.0.0.1:{port}/"
    log = home.with_name(f"{home.name}.log")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--home", str(home), *options],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text(encoding='utf-8')}")
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"no server after {START_SECONDS} s: {log.read_text(encoding='utf-8')}")
