"""The folder where everything is kept, and who may work in it."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import URL

from storage.durable import atomic_file
from storage.errors import HomeBusy, HomeLocked, PlaceRefused, StorageError
from storage.locks import FileLock, alone_with
from storage.object_store import is_kept, mounted, put, store_of
from storage.read_only import is_read_only, stand_in
from storage.register import Register
from storage.reserve import keep_reserve, release_reserve
from storage.vault import Header, remove_left, sealed_file, unlocked, vault_of

_TIDY_SECONDS = 60.0


def _nobody(_: Header) -> str:
    raise HomeLocked("asked")


class Home:
    """A private folder with `documents`, `pods`, `models` and `backups`; while one has it open no other is alone.

    `passphrase` is asked for one if it is encrypted; `unfinished`: also where it is so in part.
    `database` is the URL of a server's, which then takes the place of the one in the folder; and `store` another folder
    for `documents` and `pods`, or the URL of an object store, of which up to `cache_bytes` are in the folder too.
    Raises HomeBusy where another process is alone in it for longer than a minute, and HomeLocked.
    """

    def __init__(
        self,
        root: Path,
        passphrase: Callable[[Header], str] = _nobody,
        unfinished: bool = False,
        database: str = "",
        store: str = "",
        cache_bytes: int = 20 << 30,
    ) -> None:
        self.is_read_only = is_read_only(root)
        if self.is_read_only and (database or store):
            raise PlaceRefused(f"{root} can only be read, and what is kept elsewhere not like that")
        """Whether all that is written goes with the end of this process."""
        self.root = stand_in(root.absolute()) if self.is_read_only else root.absolute()
        self.is_remote = "://" in store
        """Whether an object store has its files, and the folder only copies."""
        elsewhere = self.root / "cache" if self.is_remote else Path(store).expanduser().absolute()
        self.bytes = elsewhere if store else self.root
        """Where `documents` and `pods` are."""
        self.documents = self.bytes / "documents"
        self.pods = self.bytes / "pods"
        self.imports = self.root / "imports"
        """By document, memory that came with it and is not taken over yet."""
        self.models = self.root / "models"
        self._locks = self.root / "locks"
        self.backups = self.root / "backups"
        self.database = self.root / "docpod.sqlite3"
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._released = release_reserve(self.root)
        for folder in (self.documents, self.pods, self.imports, self.models, self.backups, self._locks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite takes an empty file for an empty database, and gives its log the same permissions.
        self.database_url = database or URL.create("sqlite", database=str(self.database)).render_as_string()
        """What `Store.open` takes."""
        self.is_served = bool(database)
        """Whether the database is a server's, of which the folder holds nothing."""
        if not self.is_served and not self.database.exists():
            self.database.touch(mode=0o600)
        self._use = FileLock(self._locks / "home")
        self._vault = ExitStack()
        try:
            self._share()
            self.header = self._vault.enter_context(unlocked(self.root, passphrase, unfinished, self.bytes))
            """Of the vault that its files are sealed in; None where they are plain."""
            if self.is_remote:
                self._vault.enter_context(mounted(self.bytes, store, cache_bytes))
            self._open_vault = vault_of(self.root)
        except (StorageError, OSError):
            self._use.close()
            raise
        if self.header:
            with self.alone() as alone:
                if alone:
                    remove_left(self.root, self.header)
        if not self._released:
            keep_reserve(self.root)

    @property
    def uploads(self) -> Path:
        """Where files pass through on their way, and copies that somebody takes; not in the home if it is encrypted."""
        folder = self._open_vault.scratch if self._open_vault else self.root / "uploads"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def take_folder(self, source: Path, target: Path) -> None:
        """Move a folder of plain files from `uploads` to another place of the home."""
        if self._open_vault is None:
            source.rename(target)
            return
        target.mkdir(mode=0o700)
        for path in source.iterdir():
            with path.open("rb") as file, sealed_file(target / path.name, path.stat().st_size) as copy:
                shutil.copyfileobj(file, copy)
            path.unlink()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Be the only one, among all processes with this folder, to work on what is named so. Raises HomeBusy at once
        otherwise.
        """
        with alone_with(self._locks, name):
            yield

    def free_bytes(self) -> int:
        """What the disk has room for; an object store has no end that could be known."""
        return 1 << 60 if self.is_remote else shutil.disk_usage(self.pods).free

    def claim(self, library: str, document_id: str) -> None:
        """Note beside the files of a library whose they are, where they are elsewhere than its database: of a new one,
        or of one whose `document_id` is among them.

        Raises PlaceRefused where they are another library's, or sealed by another vault.
        """
        if self.bytes == self.root and not self.is_served:
            return
        if self.bytes == self.root and Register.read(self.root).library not in ("", library):
            raise PlaceRefused(f"{self.root} has a library of its own, which docpod copy-in takes there")
        mark, own = self.bytes / "library" / "mark", f"{library} {self.header.name if self.header else 'plain'}"
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            if store := store_of(mark):
                store.fetch(mark, anew=True)
            known = mark.read_text()
        except FileNotFoundError:
            if document_id and not is_kept(self.documents / document_id):
                raise PlaceRefused("the files of the library are not in this store: copy them first") from None
            known = own
            with atomic_file(mark, len(own), partial(put, mark)) as file:
                file.write(own.encode())
        if known != own:
            same = known.split()[0] == library
            why = "sealed otherwise: it takes the vault.json of its library" if same else "another library's"
            raise PlaceRefused(f"the store is {why}")

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process uses the home; none comes in until the block ends."""
        try:
            yield self._use.try_exclusive()
        finally:
            self._share()

    def close(self) -> None:
        """Let another process be alone in the home."""
        self._use.close()
        self._vault.close()
        if self.is_read_only:
            shutil.rmtree(self.root)
        else:
            keep_reserve(self.root, always=self._released)

    def _share(self) -> None:
        patience_ends = time.monotonic() + _TIDY_SECONDS
        while not self._use.try_shared():
            if time.monotonic() > patience_ends:
                raise HomeBusy(f"{self.root} is being tidied up by another process")
            time.sleep(0.02)
