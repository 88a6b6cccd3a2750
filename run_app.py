"""DocPod: read a long PDF once, ask for ever. `docpod --help`, or `run_app.py --help`, lists the commands."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app import cli
from app.errors import BadSetting, DocumentNotFound, NotShared
from app.instance import announced
from app.main import App
from app.sharing import Terms


def show_page(app: App) -> None:
    """Show the page (the default), until its window is closed or the process is asked to end."""
    # The page's libraries take seconds to import, and the other commands do not need them.
    from ui.server import serve
    from ui.window import BrowserTab, window

    settings, ended = app.settings, threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    with serve(app) as served, ExitStack() as stack:
        print(f"DocPod is at {served.url} (Ctrl-C ends it). The address lets in whoever has it.", flush=True)
        if settings.share or settings.share_only:
            print(share_library(app), flush=True)
        tab = BrowserTab(served.url_once, settings.browser)
        shown = window(settings.home, tab) if settings.window else tab

        def take(files: Sequence[Path]) -> None:
            cli.add_files(app, files)
            shown.come_to_front()

        served.access.on_hand_over = take
        if app.is_only_page():
            stack.enter_context(announced(settings.home, served.address, served.access.key))
        shown.run(served.url_once(), ended)
    print("DocPod has stopped. Everything is kept.")


def share_library(app: App) -> str:
    """Share all documents that there are, or those of the settings, by a link; the link, or why there is none."""
    catalogue, only = app.library.catalogue, app.settings.share_only
    try:
        found = [catalogue.find(each.strip()).id for each in only.split(",")] if only else []
        app.sharing.start(Terms(frozenset(found or [entry.document_id for entry in catalogue.entries()])))
    except (DocumentNotFound, NotShared) as error:
        return f"{error.message} {error.hint}"
    return f"For a day this link lets one person in: {app.sharing.invite()}\nThe page makes further ones, and ends it."


def speak_mcp(app: App) -> None:
    """Serve an agent by the Model Context Protocol, over standard input and output."""
    try:
        from ui.api.mcp_tools import over_stdio
    except ModuleNotFoundError as error:
        raise BadSetting(
            f"The package {error.name} is not installed.", "Add the extra: pip install '.[mcp]'"
        ) from error
    over_stdio(app)


def main() -> None:
    """Run one command, and end the process with its exit code."""
    code = cli.main(sys.argv[1:], show_page, mcp=speak_mcp)
    sys.stdout.flush()
    # Everything is closed. A model that is still being loaded in the background must not hold up the end: interrupted
    # by Python's own way out, it would end the process with a crash.
    os._exit(code)


if __name__ == "__main__":
    main()
