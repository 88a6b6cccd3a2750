"""The command about settings: what each is for, what it is and where that comes from, and another value from now on."""

import argparse
from dataclasses import asdict
from typing import Any

from app.commands.parsers import Parsers
from app.main import App
from app.preferences import SettingState


def add(commands: Parsers) -> None:
    """Adds the command."""
    parser = commands.add("settings", _settings)
    parser.add_argument("name", nargs="?", help="of a setting, as its option has it")
    parser.add_argument("value", nargs="?", help="is saved, and holds for every start without that option")
    parser.add_argument("--reset", action="store_true", help="forget what is saved")


def _settings(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the settings, or one of them, or save a value for one."""
    states = [app.preferences.state(options.name)] if options.name else app.preferences.states()
    if options.name and options.value is not None:
        states = [app.preferences.change(options.name, options.value)]
    elif options.name and options.reset:
        states = [app.preferences.reset(options.name)]
    for each in states:
        print(f"{each.described.option[2:]:18} {each.value or each.default:14} {_whence(each)}")
        if options.name:
            print(each.described.about)
    if options.name and (options.value is not None or options.reset):
        print("A page that is open goes on with its own until it is started again.")
    return [_facts(each) for each in states]


def _whence(state: SettingState) -> str:
    waiting = f"; {state.saved} is saved" if state.waits else ""
    if state.given_by:
        return f"given by {state.given_by}{waiting}"
    return f"from the next start on {state.saved or state.default}" if state.restart else "saved" if state.saved else ""


def _facts(state: SettingState) -> dict[str, Any]:
    known = state.described
    facts = {key: value for key, value in asdict(state).items() if key != "described"}
    return {"name": known.name, **facts, "default": state.default, "when": known.when, "about": known.about}
