"""The home: private, one reader of a document at a time, swept only when nobody else is in."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storage import BlobStore, Home, HomeBusy, Opened, Store, is_kept, open_library, write_block
from storage.locks import FileLock
from storage.object_store import store_of
from tests.storage.conftest import EVERYWHERE
from tests.storage.rows import A, block, document, section

HOLD = """
import json, sys, time
from pathlib import Path
from storage import Home
from storage.postgres import Postgres
home = Home(Path(sys.argv[1]), **json.loads(sys.argv[2]))
if home.is_served:
    database = Postgres(home.database_url)
    with database.entered():
        pass
if len(sys.argv) > 3:
    lock = home.lock(sys.argv[3])
    lock.__enter__()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def another_process(home: Home, places: dict[str, str], *lock: str) -> Iterator[None]:
    """Holds the home, and a lock in it, and is killed at the end."""
    command = [sys.executable, "-c", HOLD, home.root, json.dumps(places), *lock]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_everything_is_private(home: Home) -> None:
    Store.open(home.database_url).close()
    store = Store.open(home.database_url)
    store.add_document(document())
    modes = {path.name: path.stat().st_mode & 0o777 for path in (home.root, *home.root.rglob("*"))}
    store.close()
    assert {"docpod.sqlite3-wal", "documents", "pods", "models"} < set(modes)
    assert {name: mode for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_an_odd_folder_name_is_no_trouble(tmp_path: Path) -> None:
    home = Home(tmp_path / "a b?c%20#é&=.d")
    store = Store.open(home.database_url)
    store.add_document(document())
    store.close()
    home.close()
    assert (home.root / "docpod.sqlite3").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a b?c%20#é&=.d"]


def test_free_bytes_are_known(home: Home) -> None:
    assert home.free_bytes() > 0


def test_one_reader_at_a_time(home: Home) -> None:
    with home.lock("reading-1"):
        with pytest.raises(HomeBusy, match="reading-1"), home.lock("reading-1"):
            pass
        with home.lock("reading-2"):
            pass
    with home.lock("reading-1"):
        pass
    assert [path.name for path in (home.root / "locks").iterdir()] == ["home"]


def test_a_killed_process_frees_its_lock(home: Home) -> None:
    with another_process(home, {}, "reading-1"), pytest.raises(HomeBusy), home.lock("reading-1"):
        pass
    with home.lock("reading-1"):
        pass


def test_a_file_that_is_no_longer_there_is_not_locked(home: Home) -> None:
    """Locks come and go with their files: a late opener holds one that others no longer see."""
    first, late = FileLock(home.root / "lock"), FileLock(home.root / "lock")
    assert first.try_exclusive()
    assert not late.try_exclusive()
    assert not late.try_shared()
    first.remove()
    first.close()
    assert not late.try_exclusive()
    late.close()


def test_a_lock_that_is_fought_over_has_one_holder(home: Home) -> None:
    inside, most, turns = [0], [0], []

    def fight() -> None:
        while len(turns) < 300:
            try:
                with home.lock("reading"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns.append(1)
                    inside[0] -= 1
            except HomeBusy:
                continue

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@EVERYWHERE
def test_opening_sets_aside_what_no_row_stands_for(home: Home, places: dict[str, str], tmp_path: Path) -> None:
    remote = store_of(home.pods / "a")
    with closing(open_library(home).store) as store:
        source = tmp_path / "source"
        source.write_bytes(b"known")
        sha256, _ = BlobStore(home.bytes).put_file(source)
        store.add_document(document(sha256))
        source.write_bytes(b"unknown")
        unknown, _ = BlobStore(home.bytes).put_file(source)
        reading = store.start_reading(sha256, "reader", "model", "exact", [section(0)])
        for name in ("known.pod", "unknown.pod", ".known.pod.x1.partial"):
            write_block(home.pods, name, {}, b"")
        store.add_block(store.sections(reading.id)[0].id, block(0, "known.pod"))
    (home.models / "weights").write_bytes(b"model")

    with another_process(home, places):
        assert opened(home).unknown == {}
    assert is_kept(home.pods / "unknown.pod")
    # To list an object store takes long, and is done where it is asked for.
    assert opened(home, check=remote is not None).unknown == {unknown: ""}

    assert not is_kept(home.pods / "unknown.pod") and is_kept(home.pods / "known.pod")
    aside = {path.name for path in (home.root / "quarantine").glob("*/pods/*")}
    if remote:
        aside = {Path(name).name for name in remote.names() if name.startswith("quarantine/")}
    assert aside - {".known.pod.x1.partial"} == {"unknown.pod"}
    assert not (home.pods / ".known.pod.x1.partial").exists()
    assert all(map(is_kept, (home.documents / sha256, home.documents / unknown)))
    assert (home.models / "weights").exists()


def opened(home: Home, check: bool = False) -> Opened:
    """What is found when the library is opened; it is closed again."""
    found = open_library(home, check)
    found.store.close()
    return found


def test_nobody_comes_in_while_one_is_alone(home: Home) -> None:
    """Another process may commit a block and end just before what is known is asked."""
    entered = threading.Event()
    newcomer = threading.Thread(target=lambda: (Home(home.root).close(), entered.set()))
    with home.alone() as alone:
        assert alone
        newcomer.start()
        assert not entered.wait(0.2)
    newcomer.join()
    assert entered.is_set()


def test_a_failing_opening_gives_the_home_back(home: Home) -> None:
    (home.root / "library.json").mkdir()
    with pytest.raises(IsADirectoryError):
        open_library(home)
    Home(home.root).close()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        Home(tmp_path / "file")


def test_a_deleted_document_leaves_no_name_behind(home: Home) -> None:
    with home.lock(A):
        pass
    assert [path for path in home.root.rglob("*") if A in path.name] == []
    assert os.listdir(home.pods) == []
