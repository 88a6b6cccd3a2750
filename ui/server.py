"""Serves the page to its user and to nobody else's web site: addresses, headers, limits, private upload folder."""

import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from app.errors import BadSetting
from app.main import App
from app.starter import ICON
from ui import download
from ui.access import SECRET, Access
from ui.api import Api
from ui.guard import Guard
from ui.language import i18n
from ui.main import build
from ui.originals import routes
from ui.theme import head, theme
from ui.tunnel import GradioTunnel, LocalNetwork

log = logging.getLogger(__name__)

_DATABASE = ("docpod.sqlite3", "docpod.sqlite3-wal", "backups", "quarantine", "library.json", "vault.json")
_CLUSTER = ("cluster.key", "cluster.json")
PRIVATE = (
    "documents",
    "pods",
    "imports",
    "models",
    *_DATABASE,
    "docpod.log",
    "docpod.log.1",
    "cluster.key",
    "cluster.json",
    SECRET,
)
"""What in the home Gradio may never serve or copy, whatever it is asked for; uploads lie beside these."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_WAITING = 1024
"""Events of all pages, which wait for their turn: a question past that is refused."""
PORTS_TRIED = 50
STALE_SECONDS = 86_400.0
"""An upload folder this old belongs to a run that was killed."""


@dataclass(frozen=True)
class Served:
    """A page that is being served."""

    access: Access
    port: int
    blocks: gr.Blocks

    @property
    def address(self) -> str:
        """Where it is, for this machine."""
        host = self.access.app.settings.host
        host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        """The address that lets its user in, for as long as it is served."""
        return f"{self.address}/?key={self.access.key}"

    def url_once(self) -> str:
        """An address that lets its user in once, to be given to a browser."""
        return f"{self.address}/?key={self.access.code()}"

    def close(self) -> None:
        """Stops serving."""
        self.blocks.close(verbose=False)


@contextmanager
def serve(app: App) -> Iterator[Served]:
    """Serves the page while the context lasts; uploads pass through a private folder that ends with it.

    Raises BadSetting where the page would be open to the network without a password, or there is no free port.
    """
    settings = app.settings
    if settings.host not in LOOPBACK and not (settings.page_password or settings.trusted_header or app.people.all()):
        raise BadSetting(
            f"With --host {settings.host} the whole library would be open to whoever reaches this machine.",
            "Add people with `people add`, give a password with DOCPOD_PAGE_PASSWORD or --page-password, or share "
            "chosen documents with --listen.",
        )
    host = "0.0.0.0" if settings.listen and settings.host in LOOPBACK else settings.host
    with _upload_folder(app.uploads):
        blocks = build(app).queue(max_size=MOST_WAITING, api_open=False)
        api = Api(app)
        port = free_port(host, settings.port)
        access = Access(app, port, settings.page_password)
        app.sharing.roads["link"] = GradioTunnel(port)
        if settings.listen:
            app.sharing.roads["network"] = LocalNetwork(port)
        blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=False,
            pwa=True,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            max_file_size=f"{settings.max_upload_mb}mb",
            allowed_paths=[],
            blocked_paths=[str(settings.home / name) for name in PRIVATE],
            strict_cors=True,
            i18n=i18n,
            theme=theme(),
            head=head(),
            favicon_path=ICON,
            app_kwargs={
                "middleware": [Middleware(Guard, access=access)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
                "routes": [*routes(), *api.routes, *download.ROUTES],
                "lifespan": api.lifespan,
            },
        )
        served = Served(access, port, blocks)
        try:
            yield served
        finally:
            served.close()


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nothing listens on; raises BadSetting when there is none or no such host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + PORTS_TRIED, 65_536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # A port that was closed a moment ago is free; without this it looks taken for a minute.
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except socket.gaierror as error:
                raise BadSetting(f"The address {host!r} does not exist.", "Use --host 127.0.0.1.") from error
            except OSError as error:
                log.debug("port %d is taken: %s", port, error)
    raise BadSetting(f"No free port from {first} to {first + PORTS_TRIED - 1}.", "Choose another with --port.")


@contextmanager
def _upload_folder(parent: Path) -> Iterator[Path]:
    for left in parent.iterdir():
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        # Gradio takes these from the environment only. The frequency: it sums up its last 10,000 events in pandas
        # after each one, for a page of statistics that nobody opens.
        ours = {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(sys.maxsize),
            # Otherwise a header of a proxy on this machine would say from which address a request comes.
            "FORWARDED_ALLOW_IPS": "",
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
