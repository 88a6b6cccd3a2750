"""The command line: the same library, questions and errors as the page, printed for people or as JSON."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from app.commands import NOUNS
from app.commands.parsers import Parsers
from app.commands.terminal import PROGRAM
from app.instance import hand_over
from app.log_file import log_file
from app.main import App
from app.refusals import TOLD, as_app_error
from app.settings import SETTINGS, Settings
from storage import HomeLocked

log = logging.getLogger(__name__)

Serve = Callable[[App], None]


def main(arguments: Sequence[str], serve: Serve, **others: Serve) -> int:
    """Run one command; returns the exit code. `serve` shows the page until it is closed.

    The others are commands too, which serve somebody else until they are ended.
    """
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", handlers=[terminal])
    services = {"serve": serve, **others}
    if arguments and Path(arguments[0]).is_file():
        # As a file manager opens it.
        arguments = ["serve", *arguments]
    options = _parser(services).parse_args(arguments)
    as_json = getattr(options, "json", False)
    try:
        given, sources = _given(options)
        if getattr(options, "unopened", False):
            return _print(options.run, Settings(**given), options, as_json)
        app = App(Settings(**given), options.command == "rescue", sources)
        if app.notice:
            print(app.notice, file=sys.stderr)
        with log_file(app.settings.home, app.settings.log_level, app.settings.log_json):
            log.info("DocPod begins: %s", options.command or "serve")
            return _run(app, options, services, as_json)
    except HomeLocked as error:
        if locked := getattr(options, "locked", None):
            return _print(locked, Settings(**given), options, as_json)
        return _report(error, as_json)
    except TOLD as error:
        return _report(error, as_json)


def _run(app: App, options: argparse.Namespace, services: Mapping[str, Serve], as_json: bool) -> int:
    try:
        if service := services.get(options.command or "serve"):
            files = [Path(name) for name in getattr(options, "files", ())]
            shows = service is services["serve"] and (app.settings.browser or app.settings.window)
            if shows and not app.is_only_page():
                hand_over(app.settings.home, files)
                print("DocPod is open already.")
                return 0
            app.start()
            add_files(app, files)
            service(app)
            return 0
        acting = app.people.app(app.people.named(options.person)) if "person" in options else app
        return _print(options.run, acting, options, as_json)
    except KeyboardInterrupt:
        print("\nStopped. What was read so far is kept.", file=sys.stderr)
        return 130
    finally:
        app.close()


def _print(
    run: Callable[[Any, argparse.Namespace], Any], of: App | Settings, options: argparse.Namespace, as_json: bool
) -> int:
    # What commands print is for people.
    with redirect_stdout(StringIO()) if as_json else nullcontext():
        result = run(of, options)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    return 0


def add_files(app: App, files: Sequence[Path]) -> None:
    """Add files that were opened with DocPod; one that cannot be added is named, and the others are."""
    for path in files:
        try:
            app.library.add(path, path.name, move=False)
        except TOLD as error:
            log.warning("%s was not added: %s", path, error)


def _parser(services: Mapping[str, Serve]) -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    for each in SETTINGS.values():
        if each.kind is bool:
            shared.add_argument(
                each.option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=each.about
            )
        else:
            shared.add_argument(each.option, default=argparse.SUPPRESS, metavar=each.name.upper(), help=each.about)
    output = argparse.ArgumentParser(add_help=False, parents=[shared])
    output.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON value at the end"
    )
    output.add_argument("--person", default=argparse.SUPPRESS, metavar="NAME", help="do it as this person has it")
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, parents=[shared])
    commands = Parsers(parser, output)
    for name, service in services.items():
        parser_of_it = commands.service(name, service, shared)
        if name == "serve":
            parser_of_it.add_argument("files", nargs="*", metavar="FILE", help="a file to add")
    for noun in NOUNS:
        noun.add(commands)
    return parser


def _given(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """What the command line gives, and else the environment, with the option or variable that it comes from.

    Raises BadSetting.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, each in SETTINGS.items():
        if name in options:
            given = getattr(options, name)
            values[name] = given if isinstance(given, bool) else each.parsed(each.option, given)
            sources[name] = each.option
        elif given := os.environ.get(each.variable):
            values[name] = each.parsed(each.variable, given)
            sources[name] = each.variable
    return values, sources


def _report(caught: Exception, as_json: bool) -> int:
    """Say what went wrong in a user's words; a bug is raised again."""
    if (error := as_app_error(caught)) is None:
        raise caught
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
    print(f"{error.message}\n{error.hint}", file=sys.stderr)
    return 2
