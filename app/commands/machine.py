"""The commands about the machine."""

import argparse
import sys
from pathlib import Path
from typing import Any

from app.commands.parsers import Parsers
from app.commands.terminal import PROGRAM, wait
from app.doctor import examine
from app.main import App
from app.starter import install


def add(commands: Parsers) -> None:
    """Adds the commands."""
    commands.add("doctor", _doctor)
    commands.add("install-desktop", _install_desktop)


def _doctor(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Say what this machine offers and whether everything stored is whole."""
    wait(app.model.settled, lambda: app.status().why)
    facts = examine(app)
    if not options.json:
        for key, value in facts.items():
            print(f"{key:20} {value}")
    return facts


def _install_desktop(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Put DocPod into the menu of the desktop, in a window of its own."""
    program = Path(sys.argv[0]).absolute()
    command = [str(program)] if PROGRAM == "docpod" else [sys.executable, str(program)]
    starter = install([*command, "serve", "--window", "--home", str(app.settings.home.absolute())])
    if not options.json:
        print(f"{starter} starts DocPod in a window of its own.")
    return {"starter": str(starter)}
