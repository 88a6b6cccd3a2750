"""The reserve: a file that gives its room away on a full disk, so that what takes little can still be written."""

import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

RESERVE_BYTES = 8 << 20
LITTLE_BYTES = RESERVE_BYTES // 2
"""So much free space, or less, is a full disk."""
_FILE = "reserve"


def keep_reserve(home: Path, always: bool = False) -> None:
    """Keep some room, where that leaves as much again; `always` in the place of one that was given away."""
    try:
        free = shutil.disk_usage(home).free
        if (home / _FILE).exists() or not (always or free > 2 * RESERVE_BYTES):
            return
        (home / _FILE).touch(mode=0o600)
        # No zeros, of which some disks keep none.
        (home / _FILE).write_bytes(os.urandom(max(0, min(RESERVE_BYTES, free - LITTLE_BYTES // 8))))
    except OSError as error:
        log.info("no room could be kept for a full disk: %s", error)
        (home / _FILE).unlink(missing_ok=True)


def release_reserve(home: Path) -> bool:
    """Give the room away where the disk is full; whether there was any."""
    if shutil.disk_usage(home).free > LITTLE_BYTES or not (home / _FILE).exists():
        return False
    (home / _FILE).unlink(missing_ok=True)
    log.info("the disk is full: what was kept for that is used now")
    return True
