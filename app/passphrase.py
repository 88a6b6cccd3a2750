"""The passphrase of an encrypted home: from the environment, the system's keyring, or a terminal."""

import logging
import os
import secrets
import sys
from getpass import getpass

from app.errors import BadSetting
from storage import Header, HomeLocked, has_encryption

log = logging.getLogger(__name__)

VARIABLE, NEW = "DOCPOD_PASSPHRASE", "DOCPOD_NEW_PASSPHRASE"
_SERVICE = "docpod"


def known(header: Header) -> str:
    """The one that opens a home. Raises HomeLocked where nobody gives it."""
    given = os.environ.get(VARIABLE) or (_kept(header.name) if header.by == "keyring" else "")
    if not given and sys.stdin.isatty():
        given = _typed("Passphrase of the library: ")
    if not given:
        raise HomeLocked("asked", header.by)
    return given


def chosen(header: Header, in_keyring: bool) -> str:
    """A new one. Raises HomeLocked where encryption is not installed, and BadSetting."""
    if not has_encryption():
        raise HomeLocked("driver")
    if in_keyring:
        made = "-".join(secrets.token_hex(4) for _ in range(6))
        _keep(header.name, made)
        print(f"The passphrase is in the keyring. Write it down too, for another machine: {made}", file=sys.stderr)
        return made
    given = os.environ.get(NEW) or ("" if header.salt else os.environ.get(VARIABLE, ""))
    if not given and sys.stdin.isatty():
        given = _typed("New passphrase of the library: ")
        if _typed("Once more: ") != given:
            raise BadSetting("These are two passphrases.", "Type the same one twice.")
    if not given:
        hint = f"Type one on a terminal, set {NEW if header.salt else VARIABLE}, or use --keyring."
        raise BadSetting("No new passphrase was given.", hint)
    return given


def _typed(prompt: str) -> str:
    try:
        return getpass(prompt)
    except (EOFError, KeyboardInterrupt):
        return ""


def _kept(name: str) -> str:
    try:
        import keyring
    except ModuleNotFoundError as error:
        raise HomeLocked("driver") from error
    try:
        return keyring.get_password(_SERVICE, name) or ""
    except keyring.errors.KeyringError as error:
        log.warning("the keyring was not read: %s", error)
        return ""


def _keep(name: str, passphrase: str) -> None:
    try:
        import keyring
    except ModuleNotFoundError as error:
        raise HomeLocked("driver") from error
    try:
        keyring.set_password(_SERVICE, name, passphrase)
    except keyring.errors.KeyringError as error:
        raise BadSetting(
            f"The keyring keeps nothing: {error}.", "Leave --keyring out, and type a passphrase."
        ) from error
