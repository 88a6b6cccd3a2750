"""Stores elsewhere: what is written is there before anything says so, copies are checked and bounded, and a store that
is away loses nothing.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from storage import (
    BlobStore,
    BlockDamaged,
    Header,
    Home,
    PlaceRefused,
    StorageAway,
    StorageFailed,
    forget,
    is_kept,
    object_store,
    open_library,
    read_block,
    write_block,
)
from storage.object_store import ObjectStore, store_of
from tests.servers import PostgresServer, S3Server
from tests.storage.conftest import EVERYWHERE
from tests.storage.rows import block, document, section


@pytest.fixture
def url(s3: S3Server) -> str:
    return s3.url()


@pytest.fixture
def home(tmp_path: Path, url: str) -> Iterator[Home]:
    with closing(Home(tmp_path / "home", store=url)) as home:
        yield home


@pytest.fixture
def remote(home: Home) -> ObjectStore:
    found = store_of(home.pods / "a")
    assert found is not None
    return found


@pytest.fixture
def elsewhere(tmp_path: Path, url: str) -> Iterator[Home]:
    """Another machine's."""
    with closing(Home(tmp_path / "elsewhere", store=url)) as home:
        yield home


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "PATIENCE_SECONDS", 0.0)


def test_what_one_machine_writes_another_reads(home: Home, elsewhere: Home, source: Path) -> None:
    _, checksum = write_block(home.pods, "a.pod", {"a": 1}, b"payload")
    assert bytes(read_block(elsewhere.pods / "a.pod", checksum, threads=4)[1]) == b"payload"
    sha256, _ = BlobStore(home.bytes).put_file(source)
    with BlobStore(elsewhere.bytes).plain(sha256, sha256) as path:
        assert path.read_bytes() == source.read_bytes()
    assert [each.name for each in elsewhere.documents.iterdir()] == [sha256]


def test_a_spoilt_copy_is_fetched_again_and_a_spoilt_file_is_damage(
    home: Home, remote: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = home.pods / "a.pod"
    _, checksum = write_block(home.pods, path.name, {}, b"payload")
    for spoilt in (b"", b"short", path.read_bytes()[:-1] + b"x"):
        path.write_bytes(spoilt)
        caplog.clear()
        assert bytes(read_block(path, checksum)[1]) == b"payload"
        assert "fetched again" in caplog.text
    path.write_bytes(spoilt)
    remote.put(path, path)
    with pytest.raises(BlockDamaged, match="checksum"):
        read_block(path, checksum)
    remote.remove(path)
    with pytest.raises(BlockDamaged, match="missing"):
        read_block(path, checksum)


def test_an_original_is_verified_when_it_comes(
    home: Home, remote: ObjectStore, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blobs, gets = BlobStore(home.bytes), []
    sha256, size = blobs.put_file(source)
    get = remote._files.get_file

    def spoil_the_first(there: str, name: str) -> None:
        get(there, name)
        if not gets:
            Path(name).write_bytes(bytes(size))
        gets.append(name)

    blobs.path(sha256).unlink()
    monkeypatch.setattr(remote._files, "get_file", spoil_the_first)
    with blobs.plain(sha256, sha256) as path:
        assert path.read_bytes() == source.read_bytes()
    assert len(gets) == 2 and "came otherwise" in caplog.text
    blobs.path(sha256).write_bytes(bytes(size))
    remote.put(blobs.path(sha256), blobs.path(sha256))
    blobs.path(sha256).unlink()
    with pytest.raises(StorageFailed, match="not what was added"), blobs.plain(sha256, sha256):
        pass


def test_a_copy_that_did_not_come_whole_is_no_copy(
    home: Home, remote: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_block(home.pods, "a.pod", {}, bytes(1000))
    (home.pods / "a.pod").unlink()
    monkeypatch.setattr(remote._files, "get_file", lambda there, name: Path(name).write_bytes(b"half"))
    with pytest.raises(StorageAway, match=r"4 of \d+ bytes"):
        read_block(home.pods / "a.pod")
    assert list(home.pods.iterdir()) == []


def test_copies_take_no_more_than_they_may(tmp_path: Path, url: str) -> None:
    with closing(Home(tmp_path / "home", store=url, cache_bytes=250_000)) as home:
        for number in range(5):
            write_block(home.pods, f"{number}.pod", {"number": number}, bytes(100_000))
            os.utime(home.pods / f"{number}.pod", (number, number))
        assert {each.name for each in home.pods.iterdir()} == {"3.pod", "4.pod"}
        read_block(home.pods / "3.pod")
        # The one that was used longest ago goes first.
        assert read_block(home.pods / "0.pod")[0] == {"number": 0}
        assert {each.name for each in home.pods.iterdir()} == {"0.pod", "3.pod"}
        store = store_of(home.pods / "a")
        assert store and {f"pods/{number}.pod" for number in range(5)} <= store.names()


def test_a_file_in_use_outlives_its_copy(home: Home, remote: ObjectStore, source: Path) -> None:
    blobs = BlobStore(home.bytes)
    sha256, _ = blobs.put_file(source)
    with blobs.plain(sha256) as path:
        remote._make_room(1 << 60)
        assert list(home.documents.glob("[!.]*")) == []
        assert path.read_bytes() == source.read_bytes()
    assert list(home.documents.iterdir()) == []


def test_a_part_that_fails_is_sent_again_and_not_the_file(
    home: Home, remote: ObjectStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(os.urandom(11 << 20))
    blobs, parts = BlobStore(home.bytes), []
    is_kept(home.pods / "a")
    client = remote._files._s3
    send = client.upload_part

    async def upload_part(**facts: object) -> object:
        parts.append(facts["PartNumber"])
        if parts == [1, 2]:
            raise TimeoutError("the line was cut")
        return await send(**facts)

    monkeypatch.setattr(client, "upload_part", upload_part)
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 << 20)
    sha256, _ = blobs.put_file(source)
    assert sorted(parts) == [1, 2, 2, 3]
    blobs.path(sha256).unlink()
    assert blobs.digest(sha256) == sha256


def test_a_store_that_is_away_loses_nothing(s3: S3Server, home: Home, source: Path, impatient: None) -> None:
    blobs = BlobStore(home.bytes)
    write_block(home.pods, "a.pod", {}, b"before")
    (home.pods / "b.pod").write_bytes((home.pods / "a.pod").read_bytes())
    s3.stop()
    try:
        with pytest.raises(StorageAway, match=r"the store of c\.pod"):
            write_block(home.pods, "c.pod", {}, b"lost")
        with pytest.raises(StorageAway):
            blobs.put_file(source, move=True)
        assert source.exists()
        # What is here can be read.
        assert bytes(read_block(home.pods / "a.pod")[1]) == b"before"
        (home.pods / "a.pod").unlink()
        with pytest.raises(StorageAway):
            read_block(home.pods / "a.pod")
        with pytest.raises(StorageAway):
            blobs.delete("0" * 64)
    finally:
        s3.start()
    assert bytes(read_block(home.pods / "a.pod")[1]) == b"before"
    assert not is_kept(home.pods / "c.pod") and not (home.pods / "c.pod").exists()


def test_writing_waits_for_a_store_that_is_away(s3: S3Server, home: Home, elsewhere: Home) -> None:
    s3.stop()
    back = threading.Timer(1.0, s3.start)
    back.start()
    _, checksum = write_block(home.pods, "a.pod", {}, b"late")
    back.join()
    assert bytes(read_block(elsewhere.pods / "a.pod", checksum)[1]) == b"late"


def test_a_bucket_that_is_not_there_is_a_sentence(tmp_path: Path, s3: S3Server, impatient: None) -> None:
    with closing(Home(tmp_path / "home", store="s3://nowhere/x")) as home, pytest.raises(StorageAway, match="bucket"):
        open_library(home)
    with pytest.raises(PlaceRefused, match="nosuch"):
        Home(tmp_path / "other", store="nosuch://x")


def test_a_store_of_another_library_is_refused(home: Home, elsewhere: Home) -> None:
    open_library(home).store.close()
    with pytest.raises(PlaceRefused, match="another library's"):
        open_library(elsewhere)
    open_library(home).store.close()


def test_a_store_without_the_files_of_the_library_is_refused(
    home: Home, source: Path, s3: S3Server, postgres: PostgresServer, tmp_path: Path
) -> None:
    """Otherwise all that was read would be taken for lost, and read again."""
    database = postgres.url()
    with closing(Home(tmp_path / "first", database=database)) as first, closing(open_library(first).store) as store:
        sha256, _ = BlobStore(first.bytes).put_file(source)
        store.add_document(document(sha256))
    for number, where in enumerate(("", str(tmp_path / "empty"), s3.url())):
        with closing(Home(tmp_path / f"second {number}", database=database, store=where)) as second:
            with pytest.raises(PlaceRefused, match="copy them first"):
                open_library(second)
            BlobStore(second.bytes).put_file(source)
            open_library(second).store.close()


def test_copies_of_what_was_deleted_elsewhere_go(
    tmp_path: Path, url: str, postgres: PostgresServer, source: Path
) -> None:
    database = postgres.url()
    with closing(Home(tmp_path / "a", database=database, store=url)) as one, closing(open_library(one).store) as store:
        sha256, _ = BlobStore(one.bytes).put_file(source)
        store.add_document(document(sha256))
        with closing(Home(tmp_path / "b", database=database, store=url)) as other:
            open_library(other).store.close()
            with BlobStore(other.bytes).plain(sha256, sha256):
                pass
            open_library(other).store.close()
            assert (other.documents / sha256).exists()
            forget(one, store, sha256)
            open_library(other).store.close()
            assert list(other.documents.iterdir()) == []


@EVERYWHERE
def test_what_is_sealed_leaves_sealed(tmp_path: Path, places: dict[str, str], source: Path) -> None:
    (root := tmp_path / "sealed").mkdir()
    (root / "backups").mkdir()
    replace(Header.new().under("right", "passphrase"), state="encrypted").write(root)
    with closing(Home(root, lambda _: "right", **places)) as home, closing(open_library(home).store) as store:
        blobs = BlobStore(home.bytes)
        sha256, _ = blobs.put_file(source)
        store.add_document(document(sha256))
        write_block(home.pods, "a.pod", {}, b"ferryman")
        reading = store.start_reading(sha256, "reader", "model", "exact", [section(0)])
        store.add_block(store.sections(reading.id)[0].id, block(0, "a.pod"))
        for path in (home.pods / "a.pod", blobs.path(sha256)):
            if remote := store_of(path):
                remote.fetch(path, anew=True)
            assert path.read_bytes().startswith(b"DOCPODE1")
        assert bytes(read_block(home.pods / "a.pod")[1]) == b"ferryman"
        with blobs.plain(sha256, sha256) as path:
            assert path.read_bytes() == source.read_bytes()
    if "database" in places and "store" in places:
        # A machine without the key would take all of it for damaged.
        with closing(Home(tmp_path / "plain", **places)) as plain, pytest.raises(PlaceRefused, match=r"vault\.json"):
            open_library(plain)


@EVERYWHERE
def test_deleted_is_gone_everywhere(tmp_path: Path, places: dict[str, str], source: Path) -> None:
    with closing(Home(tmp_path / "home", **places)) as home, closing(open_library(home).store) as store:
        sha256, _ = BlobStore(home.bytes).put_file(source)
        store.add_document(document(sha256))
        write_block(home.pods, "a.pod", {}, b"x")
        reading = store.start_reading(sha256, "reader", "model", "exact", [section(0)])
        store.add_block(store.sections(reading.id)[0].id, block(0, "a.pod"))
        forget(home, store, sha256)
        assert store.documents() == []
        assert not is_kept(home.documents / sha256) and not is_kept(home.pods / "a.pod")
        assert list(home.documents.iterdir()) == list(home.pods.iterdir()) == []
