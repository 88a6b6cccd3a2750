"""Refusals: what the disk and the database refuse, in sentences that a user can act on."""

import errno
import logging
from uuid import uuid4

from app.errors import AppError, BadSetting, Busy, DiskFailed, DiskFull, LibraryAway, Locked, OutOfMemory
from app.log_file import NAME
from storage import (
    DatabaseDamaged,
    HomeBusy,
    HomeLocked,
    PlaceRefused,
    StorageAway,
    StorageError,
    StorageFailed,
    StorageFull,
)

log = logging.getLogger(__name__)

TOLD = (AppError, StorageError, OSError, MemoryError)
"""What a user may be told of; other errors are bugs."""


def as_app_error(error: BaseException) -> AppError | None:
    """An error as the user is told of it; None for a bug."""
    match error:
        case AppError():
            return error
        case StorageFull():
            return DiskFull(error.needed_bytes, error.free_bytes)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return DiskFull(0, 0)
        case DatabaseDamaged():
            return DiskFailed(f"The database of the library is damaged: {error}.", RESCUE)
        case HomeLocked():
            return Locked(*_LOCKED.get(error.why) or _WITHOUT[error.by == "keyring"])
        case PlaceRefused():
            return BadSetting(f"The library cannot be opened: {error}.", "Look at --database and --store.")
        case StorageAway():
            return LibraryAway(f"What keeps the library cannot be reached: {error}.", AWAY)
        case StorageFailed():
            return DiskFailed(f"The disk of the library does not work as it should: {error}.", LOOK)
        case OSError(errno=errno.EIO | errno.EROFS | errno.EBADMSG):
            return disk_failed(error)
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return Busy(
                "Too many files are open.", "Close other programs, or raise the limit (ulimit -n), and try again."
            )
        case MemoryError():
            return OutOfMemory(0, 0)
        case HomeBusy():
            return Busy("Another DocPod process is at work in this folder.", "Try again in a minute.")
    return None


def report(error: Exception) -> AppError:
    """An error as the user is told of it; a bug goes into the log under a short id, which is all that is told of it."""
    if (known := as_app_error(error)) is not None:
        return known
    short_id = uuid4().hex[:6]
    log.error("bug %s", short_id, exc_info=error)
    hint = f"Please try again; {NAME} in the home folder has the details under this id."
    return AppError(f"Something went wrong (id {short_id}).", hint)


def disk_failed(error: OSError) -> DiskFailed:
    """An error of the system about the files of the library."""
    of_file = f" of {error.filename}" if error.filename else ""
    return DiskFailed(f"The disk{of_file} does not work as it should: {error.strerror}.", LOOK)


RESCUE = "The command `rescue` goes on from its last backup; originals stay where they are."
LOOK = "Check that the disk is there and may be written to, or choose another folder with --home."
AWAY = "Nothing is lost. Check that the server runs and can be reached from here, and try again."
_WITHOUT = (
    ("The library is encrypted.", "Type its passphrase on a terminal, or give it as DOCPOD_PASSPHRASE."),
    (
        "The library is encrypted, and the keyring of this machine does not have its passphrase.",
        "Give the one that `encrypt` printed as DOCPOD_PASSPHRASE.",
    ),
)
_LOCKED = {
    "wrong": ("This passphrase does not open the library.", "Nothing was changed: try again with the right one."),
    "lost": (
        "The library is encrypted, and both copies of vault.json, without which no passphrase opens it, are gone or "
        "damaged.",
        "Put vault.json back into the home from a copy of it. Nothing was changed.",
    ),
    "encrypting": ("Encrypting the library was not finished.", "The command `encrypt` goes on; nothing is lost."),
    "decrypting": ("Decrypting the library was not finished.", "The command `decrypt` goes on; nothing is lost."),
    "driver": ("The packages for encrypted libraries are not installed.", "Add the extra: pip install '.[encrypted]'"),
}
"""Of a home that cannot be opened, by reason: message and hint."""
