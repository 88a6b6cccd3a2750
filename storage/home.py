"""The folder where everything is kept, and who may work in it."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from storage.errors import HomeBusy
from storage.locks import FileLock

_SWEEP_SECONDS = 60.0


class Home:
    """A private folder with `documents`, `pods` and `models`; an open home keeps other processes from sweeping it.

    Raises HomeBusy where another process sweeps it for longer than a minute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.documents = self.root / "documents"
        self.pods = self.root / "pods"
        self.imports = self.root / "imports"
        """By document, memory that came with it and is not taken over yet."""
        self.models = self.root / "models"
        self._locks = self.root / "locks"
        self._database = self.root / "docpod.sqlite3"
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.documents, self.pods, self.imports, self.models, self._locks):
            folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite takes an empty file for an empty database, and gives its log the same permissions.
        self._database.touch(mode=0o600)
        self._use = FileLock(self._locks / "home")
        self._share()

    @property
    def database_url(self) -> str:
        """What `Store.open` takes."""
        return URL.create("sqlite", database=str(self._database)).render_as_string()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Be the only one, among all processes, to work on what is named so. Raises HomeBusy at once otherwise."""
        lock = FileLock(self._locks / f"{name}.lock")
        try:
            if not lock.try_exclusive():
                raise HomeBusy(f"{name} is in use elsewhere")
            try:
                yield
            finally:
                lock.remove()
        finally:
            lock.close()

    def free_bytes(self) -> int:
        """What the disk has room for."""
        return shutil.disk_usage(self.root).free

    def sweep_orphans(self, known_files: Callable[[], set[str]]) -> list[str]:
        """Remove unfinished files, blocks and documents that no row stands for; returns their names.

        Meant for the start of a process, before it writes. Does nothing while another process uses the home;
        `known_files` (names relative to the root) is asked once that is sure, so that no file can be new to it.
        """
        try:
            if not self._use.try_exclusive():
                return []
            present = {
                path.relative_to(self.root).as_posix(): path
                for folder in (self.documents, self.pods)
                for path in folder.rglob("*")
                if path.is_file()
            }
            orphans = sorted(present.keys() - known_files())
            for name in orphans:
                present[name].unlink()
            return orphans
        finally:
            self._share()

    def close(self) -> None:
        """Let other processes sweep the home."""
        self._use.close()

    def _share(self) -> None:
        patience_ends = time.monotonic() + _SWEEP_SECONDS
        while not self._use.try_shared():
            if time.monotonic() > patience_ends:
                raise HomeBusy(f"{self.root} is being tidied up by another process")
            time.sleep(0.02)
