"""Files that are either whole under their name or not there at all, also after a crash or on a full disk."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from storage.errors import StorageFull
from storage.reserve import LITTLE_BYTES

_SMALL_BYTES = 1 << 18


@contextmanager
def atomic_file(path: Path, num_bytes: int, first: Callable[[Path], None] = lambda _: None) -> Iterator[BinaryIO]:
    """A private file to write `num_bytes` to, which takes its name when the block ends well and is safe on disk then,
    and after what is to be done with it `first`.

    Raises StorageFull where the disk has no room; nothing stays behind.
    """
    if num_bytes > _SMALL_BYTES and (free := shutil.disk_usage(path.parent).free) < num_bytes + LITTLE_BYTES:
        # What tidying takes is left for that.
        raise StorageFull(num_bytes, free)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        try:
            with open(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            first(Path(name))
            rename(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(num_bytes, shutil.disk_usage(path.parent).free) from error


def rename(source: Path, target: Path) -> None:
    """Give a file that is safe on disk its name, durably."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
