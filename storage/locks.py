"""Locks on files, which the operating system frees when their holder ends, however it ends."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows knows exclusive locks on bytes only: a share is one of these bytes, exclusion is all of them.
_SHARES = 64


class FileLock:
    """A lock on one file, made where it is missing; two objects exclude each other within a process too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._bytes: tuple[int, int] | None = None

    def try_exclusive(self) -> bool:
        """Take the lock alone, without waiting; where that fails nothing is held."""
        if sys.platform == "win32":
            return self._try_bytes(0, _SHARES)
        else:
            return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take the lock beside others who share it, without waiting; where that fails nothing is held."""
        if sys.platform == "win32":
            return any(self._try_bytes(share, 1) for share in range(_SHARES))
        else:
            return self._try(fcntl.LOCK_SH)

    def remove(self) -> None:
        """Remove the file, whose lock is held alone. Windows cannot remove an open file, so there it stays."""
        if sys.platform != "win32":
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the lock."""
        os.close(self._handle)

    if sys.platform == "win32":

        def _try_bytes(self, start: int, count: int) -> bool:
            if self._bytes is not None:
                os.lseek(self._handle, self._bytes[0], os.SEEK_SET)
                msvcrt.locking(self._handle, msvcrt.LK_UNLCK, self._bytes[1])
                self._bytes = None
            try:
                os.lseek(self._handle, start, os.SEEK_SET)
                msvcrt.locking(self._handle, msvcrt.LK_NBLCK, count)
            except OSError:
                return False
            self._bytes = (start, count)
            return True

    else:

        def _try(self, kind: int) -> bool:
            try:
                fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
                # Its last holder may have removed the file since it was opened: then others lock another one.
                return os.path.samestat(os.fstat(self._handle), self._path.stat())
            except (BlockingIOError, FileNotFoundError):
                return False
