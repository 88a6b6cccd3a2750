"""The store of original files: kept once, private, moved or copied, never half."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from storage import BlobStore, Home, StorageError, StorageFull, is_kept
from storage.object_store import store_of
from tests.storage.conftest import STORES

CONTENTS = b"%PDF-1.7 " + bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENTS).hexdigest()


pytestmark = STORES


@pytest.fixture
def blobs(home: Home) -> BlobStore:
    return BlobStore(home.bytes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "up load.pdf"
    path.write_bytes(CONTENTS)
    path.chmod(0o644)
    return path


def kept(blobs: BlobStore) -> list[str]:
    return sorted(path.name for path in blobs.path(SHA256).parent.iterdir())


@pytest.mark.parametrize("move", [False, True])
def test_bytes_are_kept_under_their_name(blobs: BlobStore, source: Path, move: bool) -> None:
    inode = source.stat().st_ino
    assert blobs.put_file(source, move) == (SHA256, len(CONTENTS))
    path = blobs.path(SHA256)
    assert path.read_bytes() == CONTENTS
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert source.exists() is not move
    assert (path.stat().st_ino == inode) is (move and not store_of(path))
    assert blobs.digest(SHA256) == SHA256
    assert kept(blobs) == [SHA256]


@pytest.mark.parametrize("move", [False, True])
def test_known_bytes_are_not_written_again(blobs: BlobStore, source: Path, move: bool) -> None:
    blobs.put_file(source)
    before = blobs.path(SHA256).stat()
    assert blobs.put_file(source, move) == (SHA256, len(CONTENTS))
    assert (blobs.path(SHA256).stat().st_ino, blobs.path(SHA256).read_bytes()) == (before.st_ino, CONTENTS)
    assert source.exists() is not move


def test_a_move_from_another_file_system_copies(
    blobs: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def other_file_system(left: Path, right: Path) -> None:
        if left == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(left, right)

    monkeypatch.setattr(os, "replace", other_file_system)
    blobs.put_file(source, move=True)
    assert blobs.path(SHA256).read_bytes() == CONTENTS
    assert not source.exists()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_moving_a_link_leaves_what_it_points_to(blobs: BlobStore, source: Path, tmp_path: Path, link: str) -> None:
    other = tmp_path / "link.pdf"
    getattr(other, link)(source)
    blobs.put_file(other, move=True)
    assert source.read_bytes() == CONTENTS
    assert not other.exists()
    source.write_bytes(b"changed")
    assert not blobs.path(SHA256).is_symlink()
    assert blobs.path(SHA256).read_bytes() == CONTENTS


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_source_alone(
    blobs: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageFull) as raised:
        blobs.put_file(source)
    assert raised.value.needed_bytes == len(CONTENTS)
    assert kept(blobs) == []
    assert source.read_bytes() == CONTENTS


def test_a_file_that_changes_meanwhile_is_refused(
    blobs: BlobStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = blobs.digest

    def change_then_look(sha256: str) -> str:
        source.write_bytes(b"other")
        return digest(sha256)

    monkeypatch.setattr(blobs, "digest", change_then_look)
    with pytest.raises(StorageError, match="changed while"):
        blobs.put_file(source)
    assert kept(blobs) == []


def test_deleted_bytes_are_gone(blobs: BlobStore, source: Path) -> None:
    blobs.put_file(source)
    blobs.delete(SHA256)
    blobs.delete(SHA256)
    assert blobs.digest(SHA256) == ""
    assert not is_kept(blobs.path(SHA256))
    assert kept(blobs) == []


@pytest.mark.parametrize("name", ["../docpod.sqlite3", "", "a", "/" * 64, "." * 64])
def test_only_a_sha256_names_bytes(blobs: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        blobs.delete(name)


def test_other_bytes_can_take_the_place_of_those_that_are_kept(blobs: BlobStore, source: Path, tmp_path: Path) -> None:
    blobs.put_file(source)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    other.chmod(0o644)
    blobs.replace(SHA256, other)
    assert blobs.path(SHA256).read_bytes() == b"other"
    assert blobs.path(SHA256).stat().st_mode & 0o777 == 0o600
    assert kept(blobs) == [SHA256]
