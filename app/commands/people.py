"""Commands about people: who may come in beside the home's user, and what is shared among them."""

import argparse
import sys
from getpass import getpass
from typing import Any, get_args

from app.commands.parsers import Parsers
from app.errors import BadSetting
from app.main import App
from app.people import EVERYBODY
from storage import PersonRole


def add(commands: Parsers) -> None:
    """Adds the commands."""
    verbs = commands.verbs("people", "Add, list and remove the people of a shared home, and share tags with them")
    adding = verbs.add("add", _add)
    adding.add_argument("name", help="what he types to sign in, or how the proxy calls him, such as an address")
    adding.add_argument("--role", choices=get_args(PersonRole), default="member", help="otherwise a member")
    verbs.add("list", _list)
    verbs.add("password", _password).add_argument("name")
    removing = verbs.add("remove", _remove)
    removing.add_argument("name")
    removing.add_argument("--to", metavar="NAME", default="", help="who has his documents then; otherwise you")
    sharing = verbs.add("share", _share)
    sharing.add_argument("tag", help="of your documents; those that get it later are shared too")
    sharing.add_argument("names", nargs="*", help="with whom, from now on; with nobody it is shared no longer")
    sharing.add_argument("--everybody", action="store_true", help="with all people of this home")


def _add(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Let somebody in; his password is asked for, or is a line of the input. Without one a proxy must sign him in."""
    person = app.people.add(options.name, options.role, _typed())
    print(f"{person.name} is {person.role} here.")
    return {"name": person.name, "role": person.role}


def _list(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the people."""
    people = app.people.all()
    for each in people:
        print(f"{each.role:8} {each.created_at:%Y-%m-%d}  {each.name}{'' if each.password else '  (by a proxy)'}")
    return [{"name": each.name, "role": each.role, "has_password": bool(each.password)} for each in people]


def _password(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Give somebody another password; he signs in anew."""
    app.people.set_password(options.name, _typed())
    print("From now on the new password opens the page.")
    return {"name": app.people.named(options.name).name}


def _remove(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Let somebody in no longer; his documents and conversations are kept, as another person's or yours."""
    app.people.remove(options.name, options.to)
    print(f"{options.name} has left. What was there of him is {options.to or 'yours'}.")
    return {"name": options.name, "to": options.to}


def _share(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Share all documents that have a tag with some people, or with everybody, to be read and asked."""
    app.collections.share(options.tag, [EVERYBODY] if options.everybody else options.names)
    shares = app.collections.all()
    for tag, names in shares.items():
        print(f"#{tag}  {'everybody' if EVERYBODY in names else ', '.join(names)}")
    return shares


def _typed() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    given = getpass("Password: ")
    if getpass("Once more: ") != given:
        raise BadSetting("These are two passwords.", "Type the same one twice.")
    return given
