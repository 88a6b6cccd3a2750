"""The commands that encrypt a home and decrypt it; they work while it is not open, and go on where one was ended."""

import argparse
from contextlib import closing
from typing import Any, Literal

from app.commands.parsers import Parsers
from app.errors import BadSetting
from app.main import App
from app.passphrase import chosen, known
from app.settings import Settings
from storage import By, Header, Home, HomeBusy, convert

_BY: tuple[By, By] = ("passphrase", "keyring")


def add(commands: Parsers) -> None:
    """Adds the commands."""
    encrypt = commands.unopened("encrypt", _encrypt)
    encrypt.add_argument("--keyring", action="store_true", help="make a passphrase and keep it in the system's keyring")
    commands.unopened("decrypt", _decrypt)


def _encrypt(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Encrypt all that is kept of documents, or choose another passphrase where it is encrypted."""
    _refuse_elsewhere(settings)
    header, by = Header.read(settings.home.absolute()), _BY[options.keyring]
    if header is None:
        with closing(App(settings)):
            # What is damaged is put right while it can be, and backed up.
            new = Header.new()
        new = new.under(chosen(new, options.keyring), by)
        with closing(Home(settings.home, database=settings.database)) as home, home.alone() as alone:
            if not alone:
                raise HomeBusy(f"{home.root} is in use")
            new.write(home.root)
    elif header.state == "encrypted":
        key = header.key(known(header))
        header.under(chosen(header, options.keyring), by, key).write(settings.home.absolute())
        print("From now on the new passphrase opens the library.")
        return {"files": 0}
    return _convert(settings, "encrypted")


def _decrypt(settings: Settings, _: argparse.Namespace) -> dict[str, Any]:
    """Make an encrypted library plain again."""
    _refuse_elsewhere(settings)
    if Header.read(settings.home.absolute()) is None:
        raise BadSetting(f"{settings.home} is not encrypted.", "`encrypt` does that.")
    return _convert(settings, "plain")


def _refuse_elsewhere(settings: Settings) -> None:
    if settings.store:
        raise BadSetting(
            "What is in a store elsewhere stays as it is: encrypted or plain.",
            "Leave --store out to convert a home; what an encrypted home keeps elsewhere later is sealed on its way.",
        )


def _convert(settings: Settings, to: Literal["encrypted", "plain"]) -> dict[str, Any]:
    with closing(Home(settings.home, known, unfinished=True, database=settings.database)) as home:
        if home.is_read_only:
            raise BadSetting(f"{settings.home} can only be read.", "Make it writable.")
        files = sum(1 for _ in convert(home, to))
    lost = " Without the passphrase nobody can read them, you neither." if to == "encrypted" else ""
    print(f"{files} files are {to} now.{lost}")
    return {"files": files}
