"""Block files of a pod: named facts and raw bytes, with every byte under a checksum and the same bytes every time.

    magic | u32 header length | header | digest of all before | payload | digest of all before

The header is JSON with sorted keys, padded with spaces so that the payload begins at a multiple of 64 bytes. Numbers
are little-endian. One pass of BLAKE3 over the file yields both digests and the checksum of the whole file: it is
cryptographic like SHA-256 and several times faster, and a first answer waits for it.
"""

import errno
import json
import logging
import os
import struct
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from functools import cache
from io import RawIOBase
from pathlib import Path
from typing import Any

from blake3 import blake3

from storage.errors import UNREADABLE, BlockDamaged
from storage.object_store import store_of
from storage.vault import opened, sealed_file

log = logging.getLogger(__name__)

_MAGIC = b"DOCPOD1\n"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_ALIGNMENT = 64
_HEADER_AT = len(_MAGIC) + _LENGTH.size
_PIECE_BYTES = 4 << 20
"""Read and digested at once by a thread: it fits the processor's cache, and threads seldom meet at Python's lock."""
_MOST_THREADS = 16
"""More only wait for each other."""


def write_block(
    folder: Path, name: str, meta: Mapping[str, object], payload: bytes | bytearray | memoryview
) -> tuple[int, str]:
    """Write the file whole and durably; returns its size in bytes and its checksum. Raises StorageFull."""
    body = memoryview(payload).cast("B")
    header = json.dumps({"meta": meta, "payload_bytes": body.nbytes}, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-(_HEADER_AT + len(header) + _DIGEST_BYTES) % _ALIGNMENT)
    head = _MAGIC + _LENGTH.pack(len(header)) + header
    digest = blake3(head, max_threads=blake3.AUTO)
    head += digest.digest()
    num_bytes = len(head) + body.nbytes + _DIGEST_BYTES
    with sealed_file(folder / name, num_bytes) as file:
        file.write(head)
        file.write(body)
        digest.update(head[-_DIGEST_BYTES:])
        digest.update(body)
        end = digest.digest()
        file.write(end)
        digest.update(end)
    return num_bytes, digest.hexdigest()


def read_block(
    path: Path, expected_checksum: str | None = None, buffer: memoryview | None = None, threads: int = 1
) -> tuple[dict[str, Any], memoryview]:
    """The facts and the payload, a writable view into the one buffer that the file is read into.

    `buffer`, if given, is that buffer, and exactly as long as the file is expected to be. `threads` share the work,
    which is worth it for a large block that is read alone.

    Raises BlockDamaged unless every byte is as written and, where given, the checksum of the file is the expected one.
    A copy of an object store's that is damaged is fetched once more. Raises StorageAway, too.
    """
    try:
        return _read_here(path, expected_checksum, buffer, threads)
    except BlockDamaged as damage:
        if not (store := store_of(path)) or not path.exists():
            raise
        log.warning("the copy here is fetched again: %s", damage)
        try:
            store.fetch(path, anew=True)
        except FileNotFoundError:
            raise damage from None
        return _read_here(path, expected_checksum, buffer, threads)


def _read_here(
    path: Path, expected_checksum: str | None, buffer: memoryview | None, threads: int
) -> tuple[dict[str, Any], memoryview]:
    try:
        with opened(path) as file:
            size = file.seek(0, os.SEEK_END)
            if buffer is not None and len(buffer) != size:
                raise BlockDamaged(f"{size} bytes instead of {len(buffer)}", f"{path.name}, length")
            view = memoryview(bytearray(size)) if buffer is None else buffer
            return _read(file, view, path, expected_checksum, threads)
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        what = "missing" if error.errno == errno.ENOENT else str(error.strerror)
        raise BlockDamaged(what, path.name) from error


def _read(
    file: RawIOBase, view: memoryview, path: Path, expected_checksum: str | None, threads: int
) -> tuple[dict[str, Any], memoryview]:
    """Fill the view from the file piece by piece, each of which is digested while the processor's cache holds it."""
    name = path.name
    if len(view) < _HEADER_AT:
        raise BlockDamaged(f"cut off after {len(view)} bytes", f"{name}, first bytes")
    _fill(file, view[:_HEADER_AT], 0, path)
    if view[: len(_MAGIC)] != _MAGIC:
        raise BlockDamaged("not a block of this format", f"{name}, first bytes")
    (header_bytes,) = _LENGTH.unpack_from(view, len(_MAGIC))
    header_ends = _HEADER_AT + header_bytes
    payload_at = header_ends + _DIGEST_BYTES
    if payload_at > len(view):
        raise BlockDamaged("cut off, or its length is wrong", f"{name}, header")
    _fill(file, view[_HEADER_AT:payload_at], _HEADER_AT, path)
    digest = blake3(view[:header_ends], max_threads=threads)
    if digest.digest() != view[header_ends:payload_at]:
        raise BlockDamaged("checksum differs", f"{name}, header")
    header = json.loads(bytes(view[_HEADER_AT:header_ends]))
    payload_ends = payload_at + header["payload_bytes"]
    if payload_ends + _DIGEST_BYTES != len(view):
        raise BlockDamaged(f"{len(view)} bytes instead of {payload_ends + _DIGEST_BYTES}", f"{name}, payload")
    digest.update(view[header_ends:payload_at])
    with closing(_pieces(file, view[:payload_ends], payload_at, path, threads)) as pieces:
        for piece in pieces:
            digest.update(piece)
    _fill(file, view[payload_ends:], payload_ends, path)
    if digest.digest() != view[payload_ends:]:
        raise BlockDamaged("checksum differs", f"{name}, payload")
    digest.update(view[payload_ends:])
    if expected_checksum is not None and digest.hexdigest() != expected_checksum:
        raise BlockDamaged("whole, but not the block that was written here", f"{name}, checksum")
    return header["meta"], view[payload_at:payload_ends]


def _pieces(file: RawIOBase, view: memoryview, start: int, path: Path, threads: int) -> Generator[memoryview]:
    """What stands in the view from `start` on, piece by piece as it is filled; several threads fill ahead."""
    places = [(view[at : at + _PIECE_BYTES], at) for at in range(start, len(view), _PIECE_BYTES)]
    if threads == 1 or len(places) < 2:
        for piece, at in places:
            _fill(file, piece, at, path)
            yield piece
        return
    ahead = [_readers().submit(_fill_alone, path, piece, at) for piece, at in places]
    try:
        for (piece, _), filled in zip(places, ahead, strict=True):
            filled.result()
            yield piece
    finally:
        # Nobody may write into the view once it is given back.
        wait(ahead)


def prefetch(paths: Iterable[Path]) -> None:
    """Have the system fetch files from the disk all at once, while the first of them is verified; only a hint."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads for all files: to make some for each takes about as long as they read."""
    return ThreadPoolExecutor(_MOST_THREADS, "reading")


def _fill_alone(path: Path, view: memoryview, start: int) -> None:
    with opened(path) as file:
        _fill(file, view, start, path)


def _fill(file: RawIOBase, view: memoryview, start: int, path: Path) -> None:
    """Read exactly so many bytes. Raises BlockDamaged where the file ends before."""
    file.seek(start)
    filled = 0
    while filled < len(view):
        count = file.readinto(view[filled:])
        if not count:
            raise BlockDamaged(f"cut off after {start + filled} bytes", f"{path.name}, first bytes")
        filled += count
