"""The private store of original files, each named by the sha256 of its bytes."""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from storage.durable import rename, sync_folder
from storage.errors import UNREADABLE, StorageError, StorageFailed
from storage.object_store import linked, remove, store_of
from storage.vault import opened, sealed_file, vault_of

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20


class BlobStore:
    """Immutable files under `root`/documents, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "documents"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_file(
        self, source: Path, move: bool = False, kept: Callable[[str], str] = lambda sha256: sha256
    ) -> tuple[str, int]:
        """Keep the bytes of `source`; returns their sha256 and number. With `move` the source is gone afterwards.

        Bytes that are kept already, and whole, are not written again: those whose own sha256 is what `kept` tells.
        Raises StorageFull; the source then stays.
        """
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            num_bytes = file.tell()
        if self.digest(sha256) != kept(sha256) and not (move and self._take(source, sha256)):
            self._copy(source, sha256, num_bytes, sha256)
        if move:
            source.unlink(missing_ok=True)
        return sha256, num_bytes

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a file is called as originals are."""
        return len(name) == 64 and name.isalnum()

    @contextmanager
    def plain(self, sha256: str, digest: str = "") -> Iterator[Path]:
        """A file with the bytes as they were added, while this lasts; their own sha256 is `digest`, if they are known.

        Raises StorageAway, and StorageFailed where an object store gives other bytes.
        """
        with suppress(FileNotFoundError):
            self._fetch(self.path(sha256), digest)
        if (vault := vault_of(self._folder)) is None:
            path = self.path(sha256)
            with linked(path) if store_of(path) and path.exists() else nullcontext(path) as file:
                yield file
            return
        with tempfile.TemporaryDirectory(dir=vault.scratch) as folder:
            path = Path(folder, sha256)
            try:
                with opened(self.path(sha256)) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, _PIECE_BYTES)
            except OSError as error:
                if error.errno not in UNREADABLE:
                    raise
                # As it is, so that a reader says what is wrong with it.
                path = self.path(sha256)
            yield path

    def path(self, sha256: str) -> Path:
        """Where the bytes are kept, or would be."""
        if not self.is_name(sha256):
            raise ValueError(f"not a sha256: {sha256!r}")
        return self._folder / sha256

    def digest(self, sha256: str) -> str:
        """The sha256 of the bytes that are kept under a name; empty where there are none that can be read."""
        try:
            return digest_of(self.path(sha256))
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            return ""

    def stamp(self, sha256: str) -> str:
        """Size and time of change of what is kept under a name; empty where nothing is."""
        path = self.path(sha256)
        if store_of(path):
            # It watches over its bytes itself, and to ask it for every document would take too long.
            return "in the store"
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.exists() else ""

    def replace(self, sha256: str, source: Path) -> None:
        """Move other bytes into the place of those that are kept, such as a copy that needs no password any more."""
        if vault_of(self._folder) or store_of(self.path(sha256)):
            self._copy(source, sha256, source.stat().st_size, digest_of(source))
            return
        source.chmod(0o600)
        with source.open("rb+") as file:
            os.fsync(file.fileno())
        rename(source, self.path(sha256))

    def delete(self, sha256: str) -> None:
        """Forget the bytes; those that are not kept are no error."""
        remove(self.path(sha256))
        sync_folder(self._folder)

    @staticmethod
    def _fetch(path: Path, digest: str) -> None:
        """Have the bytes here that an object store keeps, and verify them when they come."""
        if (store := store_of(path)) and store.fetch(path) and digest and digest_of(path) != digest:
            log.warning("%s came otherwise than it was kept, and is fetched again", path.name)
            store.fetch(path, anew=True)
            if digest_of(path) != digest:
                path.unlink()
                raise StorageFailed(f"{path.name} in the store is not what was added")

    def _take(self, source: Path, sha256: str) -> bool:
        """Rename the source into the store; False where that cannot be done, as from another file system."""
        # A link would move without the bytes, and another name of them could change the store later.
        if vault_of(self._folder) or store_of(self.path(sha256)) or source.is_symlink() or source.stat().st_nlink > 1:
            return False
        try:
            self.replace(sha256, source)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES):
                raise
            return False
        return True

    def _copy(self, source: Path, name: str, num_bytes: int, sha256: str) -> None:
        digest = hashlib.sha256()
        with source.open("rb") as file, sealed_file(self.path(name), num_bytes) as copy:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                copy.write(piece)
            if digest.hexdigest() != sha256:
                raise StorageError(f"{source.name} changed while it was being stored")


def digest_of(path: Path) -> str:
    """The sha256 of a file, of a sealed one that of what was sealed."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
