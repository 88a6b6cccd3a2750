"""Commands about readers: which ones this machine can run, another one from now on, and what they have read."""

import argparse
from dataclasses import asdict
from typing import Any

from app.commands.parsers import Parsers
from app.commands.terminal import wait
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the commands."""
    verbs = commands.verbs("readers", "List the readers that this machine can run, or change to another one", _list)
    verbs.add("use", _use).add_argument(
        "choice", metavar="reader", help="auto, embedded, a folder, a GGUF file, or a hub id"
    )
    verbs.add("prepare", _prepare)
    verbs.add("forget", _forget).add_argument("name", metavar="reader", help="its name")


def _list(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List readers, best first."""
    wait(app.model.settled, lambda: app.status().why)
    entries = app.readers.entries()
    for each in entries:
        here = f"{each.download_bytes / 1e9:.1f} GB to download" if each.download_bytes else "here"
        where = "in use" if each.in_use else here if each.choice else "no longer here"
        room = f"needs {each.needed_bytes / 1e9:.1f} GB{'' if each.fits else ', too much'}" if each.needed_bytes else ""
        speed = f"{'' if each.measured else 'about '}{each.tokens_per_second:,.0f} tokens/s" if each.choice else ""
        pods = f"has read {each.documents} documents, {each.pod_bytes / 1e6:,.0f} MB" if each.pod_bytes else ""
        print("  ".join(filter(None, (f"{each.name:32}", where, room, speed, each.licence, pods))))
    return [{**asdict(each), "used_at": each.used_at and each.used_at.isoformat()} for each in entries]


def _use(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Fetch a reader if need be, and read and answer with it from the next start on."""
    app.readers.use(options.choice)
    name = _settled(app)
    print(f"{name} is the reader from now on. A page that is open goes on with its own until it is started again.")
    return {"reader": name}


def _prepare(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Find out how the reader's memory is coded, for the recipes faithful to archive: once, minutes without a GPU."""
    app.readers.prepare()
    name = _settled(app)
    print(
        f"Documents that {name} reads can be kept by the recipes faithful, balanced, compact and archive from now on."
    )
    return {"reader": name}


def _settled(app: App) -> str:
    """The name of the reader, once what goes on is at its end. Raises what went wrong."""
    wait(app.readers.settled, lambda: app.readers.doing)
    if app.readers.trouble:
        raise app.readers.trouble
    return app.model.status().name


def _forget(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Delete all that a reader has read; documents and conversations stay."""
    freed = app.readers.forget(options.name)
    print(f"{freed / 1e6:,.0f} MB are free again.")
    return {"reader": options.name, "bytes": freed}
