"""The command about memories: by which recipe a document is kept."""

import argparse
import dataclasses
from typing import Any

from app.commands.parsers import Parsers, document
from app.commands.terminal import follow, wait
from app.errors import NotRead
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the command."""
    parser = commands.add("recipe", _recipe)
    document(parser)
    parser.add_argument("name", nargs="?", help="keep it by this recipe from now on, and new documents too")
    parser.add_argument("--remove", metavar="NAME", help="remove the memory that is kept by this recipe beside it")


def _recipe(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Show how a document is kept and what other recipes cost, or choose one of them and make its memory."""
    found = app.library.catalogue.find(options.document)
    wait(app.model.settled, lambda: app.status().why)
    app.model.wait()
    if app.library.presets(found.id) is None:
        raise NotRead("This document has not been parsed yet.", "Use the command `read` first.")
    if options.name:
        app.library.choose(found.id, options.name)
        follow(app, found.id)
    if options.remove:
        app.library.drop(found.id, options.remove)
    state = app.library.presets(found.id)
    assert state is not None
    if not options.json:
        for step in state.steps:
            chosen = "*" if step.name == state.chosen else " "
            told = step.why_not or f"{step.disk_bytes / 1e6:8,.1f} MB  {step.keeps}"
            print(f"{chosen} {step.name:10} {told}")
        for name, num_bytes in state.kept:
            print(f"also kept: {name}, {num_bytes / 1e6:,.1f} MB")
    return dataclasses.asdict(state)
