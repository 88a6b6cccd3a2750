"""The parsers of commands: what every command takes, and the function that it runs."""

import argparse
from collections.abc import Callable
from typing import Any

from app.main import App
from app.settings import Settings

Run = Callable[[App, argparse.Namespace], Any]
"""Does what the command says and prints it for people; with `--json` what it returns is printed instead."""


class Parsers:
    """Adds commands, or the verbs of one."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        common: argparse.ArgumentParser,
        dest: str = "command",
        required: bool = False,
    ) -> None:
        self._common, self._dest = common, dest
        self._parsers = parser.add_subparsers(dest=dest, metavar=dest.upper(), required=required)

    def add(self, name: str, run: Run) -> argparse.ArgumentParser:
        """A command that runs a function, whose docstring is its help."""
        parser = self.service(name, run, self._common)
        parser.set_defaults(run=run)
        return parser

    def unopened(self, name: str, run: Callable[[Settings, argparse.Namespace], Any]) -> argparse.ArgumentParser:
        """A command that runs while the home is not open."""
        parser = self.service(name, run, self._common)
        parser.set_defaults(run=run, unopened=True)
        return parser

    def service(self, name: str, run: Callable[..., Any], shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
        """A command that serves until it is ended."""
        return self._parsers.add_parser(name, parents=[shared], help=run.__doc__, description=run.__doc__)

    def verbs(self, name: str, about: str, run: Run | None = None, **given: Any) -> "Parsers":
        """A command that has verbs of its own; without one it runs the function on what is given, if there is one."""
        common = [self._common] if run else []
        parser = self._parsers.add_parser(name, parents=common, help=about, description=about)
        parser.set_defaults(**{"run": run} if run else {}, **given)
        return Parsers(parser, self._common, "verb", required=run is None)


def document(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds the document that a command is about; returns the parser."""
    parser.add_argument("document", help="the start of its id, its title or file name")
    return parser
