"""The command about the machine."""

import argparse
from typing import Any

from app.commands.parsers import Parsers
from app.commands.terminal import wait
from app.doctor import examine
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the command."""
    commands.add("doctor", _doctor)


def _doctor(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Say what this machine offers and whether everything stored is whole."""
    wait(app.model.settled, lambda: app.status().why)
    facts = examine(app)
    if not options.json:
        for key, value in facts.items():
            print(f"{key:20} {value}")
    return facts
