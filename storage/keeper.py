"""The keeper: backs the database up after changes, and lets no backup keep what was deleted."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from storage.durable import rename
from storage.errors import StorageError
from storage.home import Home
from storage.register import seal
from storage.sessions import as_number
from storage.sqlite import ERRORS, is_damage, opened_database, refusal
from storage.store import Store

log = logging.getLogger(__name__)

KEPT = 3
"""Backups, of which the newest replaces the oldest, or the one before it where that is young."""
EVERY_SECONDS = 240.0
"""Between two backups while the library is open."""
_LOOK_SECONDS = 3.0


class Keeper:
    """Watches the database of a home. `changed`: whether it may have changed since the last backup."""

    def __init__(self, home: Home, store: Store, changed: bool) -> None:
        """Raises StorageError."""
        self._home = home
        self._store = store
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backups", daemon=True)
        try:
            self._watch = opened_database(home.database)
            self._seen = -1 if changed else self._version()
        except ERRORS as error:
            raise refusal(error, str(home.database)) or error from error
        self._not_before = 0.0
        self._erased = 0
        self._is_full = False
        """The log still has what was deleted, since somebody read it."""
        self._is_kept = False

    def start(self) -> None:
        """Begin to back up in the background."""
        self._thread.start()

    def close(self) -> None:
        """Back up what changed."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._is_kept = self._look(at_end=True)
        self._watch.close()

    def seal(self) -> None:
        """Note how the database looks, once it is closed and backed up, and nobody else has it open."""
        with self._home.alone() as alone, suppress(StorageError, OSError):
            if alone and self._is_kept:
                seal(self._home.root, self._home.database)

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._look()

    def _look(self, at_end: bool = False) -> bool:
        """Whether nothing is left to back up, with `at_end` at once."""
        try:
            if self._is_full:
                self._empty_log()
            if self._version() == self._seen:
                return True
            erased = as_number(self._store.preference("erased"))
            if erased > self._erased:
                self._empty_log()
                self._erased = erased
            stale = [path for path in self._backups() if int(path.stem) < erased]
            if stale or at_end or time.monotonic() >= self._not_before:
                self._back_up(stale)
        except (StorageError, OSError, MemoryError, *ERRORS) as error:
            log.warning("the database was not backed up: %s", error)
            self._not_before = time.monotonic() + EVERY_SECONDS
            return False
        return True

    def _empty_log(self) -> None:
        self._is_full = bool(self._watch.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _version(self) -> int:
        """A number that changes with the database."""
        return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def _back_up(self, stale: list[Path]) -> None:
        """Write a whole and verified copy, and remove those that are `stale`, with or without it, or too many."""
        try:
            # Before anything is written: the database may be another one by now.
            self._store.register()
            self._copy(self._store.count_backup())
        except (StorageError, OSError, MemoryError, *ERRORS) as error:
            # What was deleted goes, also where the disk has no room for a copy; but not the last good copy.
            if not is_damage(error):
                _remove(stale)
            raise
        _remove(stale)
        if len(backups := self._backups()) > KEPT:
            # One command after another must not drive out what is older than damage.
            young = backups[-1].stat().st_mtime - backups[-2].stat().st_mtime < EVERY_SECONDS
            _remove([backups[-2] if young else backups[0]])
        self._store.register().write(self._home.root)
        self._seen, self._not_before = self._version(), time.monotonic() + EVERY_SECONDS

    def _backups(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self._home.backups.glob("*.sqlite3") if path.stem.isdigit())

    def _copy(self, number: int) -> None:
        handle, name = tempfile.mkstemp(dir=self._home.backups, prefix=".", suffix=".partial")
        os.close(handle)
        try:
            with closing(opened_database(Path(name))) as copy:
                self._store.copy_to(copy)
            rename(Path(name), self._home.backups / f"{number:010d}.sqlite3")
        finally:
            Path(name).unlink(missing_ok=True)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
