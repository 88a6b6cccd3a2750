"""The page over the fake app, or the real one, served by this process: another one would take ten times as long to
start.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.log_file import log_file
from app.main import App
from app.settings import Settings
from tests.app import paper
from tests.ui.fake_app import FakeApp
from tests.ui.served_process import unused_port
from tests.ui.stand_in import StandInTunnel
from ui.server import Served, serve


class Clock:
    """The fake app's time, which tests put forward instead of waiting."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def skip(self, seconds: float) -> None:
        self._ahead += seconds


@contextmanager
def serving_here(app: App | FakeApp) -> Iterator[Served]:
    """Serves an app; of two at once only the one that began last takes uploads."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:

        async def enter() -> Served:
            # Outside of a running loop Gradio makes one for its locks and never closes it.
            return stack.enter_context(serve(app))

        # Playwright keeps a loop of its own running in the thread of the test.
        yield thread.submit(asyncio.run, enter()).result()


@contextmanager
def serving_fake(
    home: Path,
    *,
    port: int = 0,
    read_seconds: float = 6.0,
    word_seconds: float = 0.05,
    max_upload_mb: int = 200,
    tunnel: bool = False,
    clock: Clock | None = None,
) -> Iterator[str]:
    """The address that lets its user in; `tunnel`: what is shared has a link, through a stand-in of the tunnel."""
    app = FakeApp(home, read_seconds, word_seconds, clock=clock or Clock())
    app.settings = replace(app.settings, port=port or unused_port(), max_upload_mb=max_upload_mb)
    with serving_here(app) as served:
        if tunnel:
            app.sharing.roads["link"] = StandInTunnel(served.port, unused_port())
        yield served.url
        app.close()


@contextmanager
def serving_real(
    home: Path, model: Path, port: int, given: Mapping[str, str] | None = None, **more: Any
) -> Iterator[str]:
    """The same of the real app over a tiny model, whose evidence heads need not be found; `given`: by which options
    settings were."""
    if not home.exists():
        paper.prepare_models(model, home / "models")
    settings = Settings(home=home, port=port, model=str(model), meaning=False, prepare=False, **more)
    app = App(settings, sources=given or {})
    app.start()
    try:
        with log_file(home), serving_here(app) as served:
            yield served.url
    finally:
        app.close()
