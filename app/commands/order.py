"""Commands that put the library in order: tags, and which documents are read next."""

import argparse
from typing import Any

from app.commands.parsers import Parsers, document
from app.errors import BadSetting
from app.listing import TAG
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the commands."""
    tag = document(commands.add("tag", _tag))
    tag.add_argument("tags", nargs="*", metavar="TAG", help="one word; without any the document's tags are shown")
    tag.add_argument("--remove", action="append", default=[], metavar="TAG", help="take this one away")
    queue = commands.add("queue", _queue)
    queue.add_argument(
        "document", nargs="?", help="the start of its id, its title or file name; all are listed without"
    )
    queue.add_argument("step", nargs="?", choices=("first", "up", "down"), default="first", help="otherwise: first")


def _tag(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Tag a document, and find it by `ls --tag TAG` or by #TAG in a search."""
    found = app.library.catalogue.find(options.document)
    gone = {each.lstrip(TAG).casefold() for each in options.remove}
    if missing := gone - {each.casefold() for each in found.tags}:
        raise BadSetting(f"{found.name} is not tagged {', '.join(sorted(missing))}.", "`tag DOCUMENT` shows its tags.")
    if options.tags or gone:
        kept = [each for each in found.tags if each.casefold() not in gone]
        app.library.catalogue.tag(found.id, " ".join([*kept, *options.tags]))
    tags = app.library.catalogue.document(found.id).tags
    print(" ".join(TAG + each for each in tags) or "This document has no tags.")
    return {"document_id": found.id, "tags": tags}


def _queue(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the documents that wait to be read, in their turn, or have one of them read at another one."""
    if options.document:
        app.library.queue.move(app.library.catalogue.find(options.document).id, options.step)
    waiting = app.library.queue.waiting()
    for place, each in enumerate(waiting, 1):
        print(f"{place:3}  {each.entry.document_id[:8]}  {each.entry.progress.stage:9}  {each.entry.name}")
    if not waiting:
        print("Nothing waits to be read.")
    return [{"document_id": entry.document_id, "title": entry.title, "seconds": sec} for entry, sec in waiting]
