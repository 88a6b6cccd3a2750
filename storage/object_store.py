"""Object stores, such as S3: the files of a library by their names, of which a folder here caches those that are used.

A file is in the store before anything says so. No name is ever given to other bytes, so that writing one twice does no
harm, and a copy here is as good as the store's. Whatever opens a file finds its store by the folder it lies in.
"""

import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from threading import Lock

from storage.errors import PlaceRefused, StorageAway

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long writing waits for a store that is away; whoever only reads is told at once."""
_OPTIONS = {"s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}}}
"""By protocol; addresses and keys come from the usual environment and configuration of AWS and fsspec."""
_OPEN: dict[Path, "ObjectStore"] = {}


class ObjectStore:
    """What lies under a URL, as far as it was used in `folder`, which takes about `cache_bytes`.

    Paths are of files in the folders of `folder`. Raises StorageAway where the store does not do what it is asked.
    """

    def __init__(self, folder: Path, url: str, cache_bytes: int) -> None:
        import fsspec

        self._folder, self._cache_bytes = folder, cache_bytes
        self._counting, self._held = Lock(), cache_bytes
        options = _OPTIONS.get(url.partition("://")[0], {})
        try:
            # What others write is seen at once.
            self._files, self._root = fsspec.url_to_fs(
                url.rstrip("/"), skip_instance_cache=True, use_listings_cache=False, **options
            )
        except (ImportError, ValueError) as error:
            raise PlaceRefused(f"{url} cannot be used: {error}") from error

    def fetch(self, path: Path, anew: bool = False) -> bool:
        """Bring a file here, unless it is; `anew` in any case. Whether it came. Raises FileNotFoundError."""
        if not anew:
            with suppress(FileNotFoundError):
                os.utime(path)
                return False
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
        try:
            with _reaching(path):
                size = self._files.info(there := self._there(path))["size"]
                self._make_room(size)
                self._files.get_file(there, name)
                if (came := Path(name).stat().st_size) != size:
                    raise StorageAway(f"{came} of {size} bytes of {path.name} came")
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
        return True

    def put(self, path: Path, source: Path) -> None:
        """Keep the bytes of `source`, part by part; a store that is away is waited for."""
        self._make_room(source.stat().st_size)
        patience_ends, pause = time.monotonic() + PATIENCE_SECONDS, 0.5
        while True:
            try:
                with _reaching(path):
                    self._files.put_file(str(source), self._there(path))
                return
            except (StorageAway, FileNotFoundError) as error:
                # The latter is said of a bucket.
                if time.monotonic() + pause > patience_ends:
                    raise StorageAway(str(error)) from error
                log.warning("%s is written again in %.1f s: %s", path.name, pause, error)
            time.sleep(pause)
            pause *= 2

    def remove(self, path: Path) -> None:
        """Forget a file, here and there; one that is not kept is no error."""
        path.unlink(missing_ok=True)
        with suppress(FileNotFoundError), _reaching(path):
            self._files.rm_file(self._there(path))

    def has(self, path: Path) -> bool:
        """Whether the store has it."""
        try:
            with _reaching(path):
                self._files.info(self._there(path))
        except FileNotFoundError:
            return False
        return True

    def names(self) -> set[str]:
        """Of all files, relative to the folder."""
        with _reaching(self._folder):
            return {str(each)[len(self._root) + 1 :] for each in self._files.find(self._root)}

    def set_aside(self, name: str) -> str:
        """Move a file to where nobody looks for it; returns its name there."""
        aside = f"quarantine/{datetime.now():%Y-%m-%d}/{name}"
        with _reaching(self._folder / name):
            self._files.mv(f"{self._root}/{name}", f"{self._root}/{aside}")
        return aside

    def _make_room(self, num_bytes: int) -> None:
        """Where the limit is passed, let go of a tenth of the copies here at least, least recently used first."""
        with self._counting:
            self._held += num_bytes
            if self._held <= self._cache_bytes:
                return
            found = []
            for path in self._folder.glob("*/[!.]*"):
                with suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
            self._held = num_bytes + sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if self._held <= self._cache_bytes * 9 // 10:
                    break
                path.unlink(missing_ok=True)
                self._held -= size

    def _there(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self._folder).as_posix()}"


@contextmanager
def mounted(folder: Path, url: str, cache_bytes: int) -> Iterator[None]:
    """While this lasts files in the folders of `folder` are those of a store. Raises PlaceRefused."""
    _OPEN[folder] = ObjectStore(folder, url, cache_bytes)
    try:
        yield
    finally:
        del _OPEN[folder]


def store_of(path: Path) -> ObjectStore | None:
    """The object store that a file belongs to; None for one that is in its place here."""
    return _OPEN.get(path.parent.parent) if _OPEN else None


def is_kept(path: Path) -> bool:
    """Whether a file is in its place, or in its store."""
    store = store_of(path)
    return path.exists() if store is None else store.has(path)


def remove(path: Path) -> None:
    """Delete a file, if it is there."""
    if store := store_of(path):
        store.remove(path)
    else:
        path.unlink(missing_ok=True)


def put(path: Path, source: Path) -> None:
    """Have a file's store keep the bytes of `source`, if it has one."""
    if store := store_of(path):
        store.put(path, source)


def move_in(source: Path, path: Path) -> None:
    """Give a file that is here another place, first in the store of that."""
    put(path, source)
    source.rename(path)


@contextmanager
def linked(path: Path) -> Iterator[Path]:
    """A file of a store by a name that it keeps for a while, whatever else must make room."""
    link = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    os.link(path, link)
    try:
        yield link
    finally:
        link.unlink()


@contextmanager
def _reaching(path: Path) -> Iterator[None]:
    try:
        yield
    except StorageAway:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, f"not in the store: {error}", str(path)) from error
    except Exception as error:
        # The rim: what a store's own library raises is its own, and all of it means that the store cannot be used now.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageAway(f"the store of {path.name}: {error or type(error).__name__}") from error
