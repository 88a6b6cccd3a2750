"""Locks on files, which the operating system frees when their holder ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import HomeBusy


class FileLock:
    """A lock on one file, made where it is missing; two objects exclude each other within a process too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def try_exclusive(self) -> bool:
        """Take the lock alone, without waiting; where that fails nothing is held."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Take the lock beside others who share it, without waiting; where that fails nothing is held."""
        return self._try(fcntl.LOCK_SH)

    def remove(self) -> None:
        """Remove the file, whose lock is held alone."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the lock."""
        os.close(self._handle)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
            # Its last holder may have removed the file since it was opened: then others lock another one.
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False


@contextmanager
def alone_with(folder: Path, name: str) -> Iterator[None]:
    """Be the only one, among all processes of a machine, with what is named so. Raises HomeBusy at once otherwise."""
    lock = FileLock(folder / f"{name}.lock")
    try:
        if not lock.try_exclusive():
            raise HomeBusy(f"{name} is in use elsewhere")
        try:
            yield
        finally:
            lock.remove()
    finally:
        lock.close()
