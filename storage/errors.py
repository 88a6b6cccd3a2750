"""What storage refuses, in its own words; the app turns these into messages with hints."""

import errno

UNREADABLE = errno.ENOENT, errno.EIO, errno.EBADMSG
"""What the system says of a file that is gone, or that the disk cannot give back."""


class StorageError(Exception):
    """Something that storage cannot keep or give back; the text says why, with the facts."""


class NotStored(StorageError):
    """The row does not exist, or exists no longer: its document may have been deleted meanwhile."""


class BlockConflict(StorageError):
    """Another number of tokens of the section is journalled than was thought: it was dropped, or read on, meanwhile."""


class BlockDamaged(StorageError):
    """A block file is not what was written: `what` is wrong, `where` in the file."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what
        self.where = where


class StorageFull(StorageError):
    """The disk is full; nothing was written. `needed_bytes` is 0 where the need is unknown."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(f"The disk is full: {needed_bytes} bytes needed, {free_bytes} free.")
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class HomeBusy(StorageError):
    """Another reader, in this process or another, holds the lock."""


class NewerDatabase(StorageError):
    """The database was written by a later version of the program."""


class StorageFailed(StorageError):
    """The disk did not do what it was asked, or must not be written to; the text has the system's reason."""


class PlaceRefused(StorageError):
    """What is named as the place of a database or of files cannot be used, or not for this library."""


class StorageAway(StorageError):
    """A server that keeps the library does not answer, or not as it should; nothing was lost."""


class DatabaseDamaged(StorageError):
    """The database is not what was written."""


class HomeLocked(StorageError):
    """The home is encrypted and cannot be opened; `why` is

    `asked` (no passphrase was given), `wrong` (it is another one), `lost` (vault.json is), `encrypting` or
    `decrypting` (which was not finished), or `driver` (the packages of the extra `encrypted` are not installed).
    """

    def __init__(self, why: str, by: str = "") -> None:
        super().__init__(f"the home is encrypted: {why}")
        self.why, self.by = why, by
