"""Commands about keys: what programs may do with the library over the API and MCP."""

import argparse
from typing import Any

from app.commands.parsers import Parsers
from app.keys import SCOPES, Key
from app.main import App


def add(commands: Parsers) -> None:
    """Adds the commands."""
    verbs = commands.verbs("keys", "Make, list and revoke the keys of programs that use the API")
    making = verbs.add("create", _create)
    making.add_argument("name", help="what the key is for")
    making.add_argument(
        "--scopes", default="read,ask", help="; ".join(f"{each}: {what}" for each, what in SCOPES.items())
    )
    verbs.add("list", _list)
    verbs.add("revoke", _revoke).add_argument("key", help="its id or name")


def _create(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Make a key, which is shown once; the scopes are read and ask unless others are given."""
    key, secret = app.keys.create(options.name, [each.strip() for each in options.scopes.split(",") if each.strip()])
    print(f"{secret}\nIt may {', '.join(SCOPES[each] for each in key.scopes)}. It is not shown again.")
    return {**_facts(key), "key": secret}


def _list(app: App, options: argparse.Namespace) -> list[dict[str, Any]]:
    """List the keys, without what opens anything."""
    keys = app.keys.all()
    for key in keys:
        print(f"{key.id}  {key.created_at:%Y-%m-%d}  {','.join(key.scopes):14}  {key.name}")
    return [_facts(key) for key in keys]


def _revoke(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Take a key back, at once."""
    key = app.keys.revoke(options.key)
    print(f"{key.id} ({key.name}) opens nothing any longer.")
    return {"id": key.id, "revoked": True}


def _facts(key: Key) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "scopes": list(key.scopes), "created_at": key.created_at.isoformat()}
