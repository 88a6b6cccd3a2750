"""Block files: the same bytes every time, whole or not there, and no damage goes unnoticed."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from storage import BlockDamaged, StorageFull, prefetch, read_block, write_block
from tests.storage.conftest import STORES

META = {"tokens": [0, 512], "dtype": "bfloat16", "shape": {"keys": [30, 512, 3, 64]}, "name": "Käse"}
PAYLOAD = bytes(range(256)) * 5 + b"end"


@STORES
def test_a_block_comes_back(folder: Path) -> None:
    num_bytes, checksum = write_block(folder, "a.pod", META, memoryview(PAYLOAD))
    contents = (folder / "a.pod").read_bytes()
    assert (num_bytes, checksum) == (len(contents), blake3(contents).hexdigest())
    meta, payload = read_block(folder / "a.pod", checksum)
    assert meta == META
    assert bytes(payload) == PAYLOAD
    assert contents.index(PAYLOAD) % 64 == 0
    assert (folder / "a.pod").stat().st_mode & 0o777 == 0o600
    assert not payload.readonly
    assert [path.name for path in folder.iterdir()] == ["a.pod"]


@STORES
def test_prefetching_changes_nothing_and_misses_no_file(folder: Path) -> None:
    _, checksum = write_block(folder, "a.pod", META, PAYLOAD)
    prefetch([folder / "a.pod", folder / "gone.pod"])
    assert bytes(read_block(folder / "a.pod", checksum)[1]) == PAYLOAD
    assert [path.name for path in folder.iterdir()] == ["a.pod"]


@STORES
def test_the_bytes_are_the_same_every_time(folder: Path) -> None:
    write_block(folder, "a.pod", META, PAYLOAD)
    write_block(folder, "b.pod", dict(reversed(META.items())), memoryview(bytearray(PAYLOAD)))
    assert (folder / "a.pod").read_bytes() == (folder / "b.pod").read_bytes()


@STORES
@pytest.mark.parametrize("meta_bytes", [0, 1, 31, 63, 64, 65, 200])
@pytest.mark.parametrize("payload", [b"", b"x", PAYLOAD])
def test_every_size_comes_back_aligned(folder: Path, meta_bytes: int, payload: bytes) -> None:
    num_bytes, checksum = write_block(folder, "a.pod", {"fill": "x" * meta_bytes}, payload)
    assert bytes(read_block(folder / "a.pod", checksum)[1]) == payload
    assert (num_bytes - 32 - len(payload)) % 64 == 0


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """Without the checksum of the file: its own checksums cover every byte."""
    path = tmp_path / "a.pod"
    write_block(tmp_path, path.name, META, b"payload")
    contents = path.read_bytes()
    regions = set()
    for position in range(len(contents)):
        for flip in (0x01, 0xFF):
            path.write_bytes(contents[:position] + bytes([contents[position] ^ flip]) + contents[position + 1 :])
            with pytest.raises(BlockDamaged) as raised:
                read_block(path)
            assert str(raised.value) == f"{raised.value.where}: {raised.value.what}"
            regions.add(raised.value.where)
    assert regions == {"a.pod, first bytes", "a.pod, header", "a.pod, payload"}


def test_any_cut_and_any_extra_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pod"
    write_block(tmp_path, path.name, META, b"payload")
    contents = path.read_bytes()
    head_bytes = contents.rindex(b"payload")
    for length in range(len(contents)):
        path.write_bytes(contents[:length])
        with pytest.raises(BlockDamaged, match="cut off" if length < head_bytes else f"{length} bytes instead of"):
            read_block(path)
    path.write_bytes(contents + b"\0")
    with pytest.raises(BlockDamaged, match="payload"):
        read_block(path)
    path.unlink()
    with pytest.raises(BlockDamaged, match="missing"):
        read_block(path)


@STORES
def test_another_block_in_its_place_is_noticed(folder: Path) -> None:
    _, checksum = write_block(folder, "a.pod", META, b"mine")
    write_block(folder, "a.pod", META, b"your")
    assert bytes(read_block(folder / "a.pod")[1]) == b"your"
    with pytest.raises(BlockDamaged, match="not the block"):
        read_block(folder / "a.pod", checksum)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    _, checksum = write_block(tmp_path, "a.pod", META, b"old")

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError if code == errno.EIO else StorageFull) as raised:
        write_block(tmp_path, "a.pod", META, PAYLOAD)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.pod"]
    assert bytes(read_block(tmp_path / "a.pod", checksum)[1]) == b"old"
    if isinstance(raised.value, StorageFull):
        assert raised.value.needed_bytes > len(PAYLOAD)
        assert raised.value.free_bytes > 0


WRITE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
from blake3 import blake3
from storage import StorageFull, write_block
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_block(Path(sys.argv[1]), "a.pod", {}, bytes(1_000_000))
except OSError as error:
    print(error.errno)
"""


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    """The system itself refuses to write on, as it does on a full disk, after a part has been written."""
    done = subprocess.run([sys.executable, "-c", WRITE_UNTIL_FULL, tmp_path], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(errno.EFBIG), "")
    assert list(tmp_path.iterdir()) == []


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from blake3 import blake3
from storage import write_block
payload = bytes(range(256)) * 8192
print("go", flush=True)
while True:
    for number in range(3):
        write_block(Path(sys.argv[1]), f"{number}.pod", {"number": number}, payload)
"""


@pytest.mark.parametrize("milliseconds", [1, 7, 18, 31])
def test_a_killed_writer_leaves_whole_files_or_none(tmp_path: Path, milliseconds: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "go\n"
    time.sleep(milliseconds / 1000)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    for path in tmp_path.glob("*.pod"):
        meta, payload = read_block(path)
        assert path.name == f"{meta['number']}.pod"
        assert len(payload) == 256 * 8192
    assert all(path.suffix in (".pod", ".partial") for path in tmp_path.iterdir())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_a_block_and_find_what_is_wrong(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.podfile._PIECE_BYTES", 1 << 10)
    path, payload = tmp_path / "a.pod", os.urandom(50_001)
    num_bytes, checksum = write_block(tmp_path, path.name, META, payload)
    buffer = memoryview(bytearray(num_bytes))
    meta, read = read_block(path, checksum, buffer, threads)
    assert meta == META and bytes(read) == payload and bytes(buffer) == path.read_bytes()
    contents = path.read_bytes()
    for position in (*range(0, num_bytes, 997), num_bytes - 1):
        path.write_bytes(contents[:position] + bytes([contents[position] ^ 1]) + contents[position + 1 :])
        with pytest.raises(BlockDamaged):
            read_block(path, checksum, buffer, threads)
    for length in (0, 11, 300, 20_000, num_bytes - 1):
        path.write_bytes(contents[:length])
        with pytest.raises(BlockDamaged):
            read_block(path, checksum, None, threads)
