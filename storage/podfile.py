"""Block files of a pod: named facts and raw bytes, with every byte under a checksum and the same bytes every time.

    magic | u32 header length | header | digest of all before | payload | digest of all before

The header is JSON with sorted keys, padded with spaces so that the payload begins at a multiple of 64 bytes. Numbers
are little-endian. One pass of BLAKE3 over the file yields both digests and the checksum of the whole file: it is
cryptographic like SHA-256 and several times faster, and a first answer waits for it.
"""

import json
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from storage.durable import whole_file
from storage.errors import BlockDamaged

_MAGIC = b"DOCPOD1\n"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_ALIGNMENT = 64
_HEADER_AT = len(_MAGIC) + _LENGTH.size
_SLACK_BYTES = 1 << 16


def write_block(
    folder: Path, name: str, meta: Mapping[str, object], payload: bytes | bytearray | memoryview
) -> tuple[int, str]:
    """Write the file whole and durably; returns its size in bytes and its checksum. Raises StorageFull."""
    body = memoryview(payload).cast("B")
    header = json.dumps({"meta": meta, "payload_bytes": body.nbytes}, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-(_HEADER_AT + len(header) + _DIGEST_BYTES) % _ALIGNMENT)
    head = _MAGIC + _LENGTH.pack(len(header)) + header
    digest = blake3(head)
    head += digest.digest()
    num_bytes = len(head) + body.nbytes + _DIGEST_BYTES
    with whole_file(folder / name, num_bytes) as file:
        file.write(head)
        file.write(body)
        digest.update(head[-_DIGEST_BYTES:])
        digest.update(body)
        end = digest.digest()
        file.write(end)
        digest.update(end)
    return num_bytes, digest.hexdigest()


def read_block(
    path: Path, expected_checksum: str | None = None, scratch: bytearray | None = None
) -> tuple[dict[str, Any], memoryview]:
    """The facts and the payload, a writable view into the one buffer that the file was read into.

    With `scratch` that buffer is used, and grown if it must be; the payload then lasts until its next use.

    Raises BlockDamaged unless every byte is as written and, where given, the checksum of the file is the expected one.
    """
    file_bytes = _contents(path, scratch)
    if file_bytes[: len(_MAGIC)] != _MAGIC:
        raise BlockDamaged("not a block of this format", f"{path.name}, first bytes")
    (header_bytes,) = _LENGTH.unpack_from(file_bytes, len(_MAGIC))
    header_ends = _HEADER_AT + header_bytes
    payload_at = header_ends + _DIGEST_BYTES
    if payload_at > len(file_bytes):
        raise BlockDamaged("cut off, or its length is wrong", f"{path.name}, header")
    digest = blake3(file_bytes[:header_ends])
    if digest.digest() != file_bytes[header_ends:payload_at]:
        raise BlockDamaged("checksum differs", f"{path.name}, header")
    header = json.loads(bytes(file_bytes[_HEADER_AT:header_ends]))
    payload_ends = payload_at + header["payload_bytes"]
    if payload_ends + _DIGEST_BYTES != len(file_bytes):
        raise BlockDamaged(
            f"{len(file_bytes)} bytes instead of {payload_ends + _DIGEST_BYTES}", f"{path.name}, payload"
        )
    digest.update(file_bytes[header_ends:payload_ends])
    if digest.digest() != file_bytes[payload_ends:]:
        raise BlockDamaged("checksum differs", f"{path.name}, payload")
    digest.update(file_bytes[payload_ends:])
    if expected_checksum is not None and digest.hexdigest() != expected_checksum:
        raise BlockDamaged("whole, but not the block that was written here", f"{path.name}, checksum")
    return header["meta"], file_bytes[payload_at:payload_ends]


def prefetch(paths: Iterable[Path]) -> None:
    """Have the system fetch files from the disk all at once, while the first of them is verified; only a hint."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _contents(path: Path, scratch: bytearray | None) -> memoryview:
    """The bytes of the file in one writable buffer, at least as long as the fixed part of a head."""
    buffer = bytearray() if scratch is None else scratch
    try:
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            if len(buffer) < size:
                # A buffer that somebody still looks at cannot grow, so files of about one size should fit at once.
                buffer.extend(bytes(size + _SLACK_BYTES - len(buffer)))
            view, filled = memoryview(buffer)[:size], 0
            while count := file.readinto(view[filled:]):
                filled += count
    except FileNotFoundError as error:
        raise BlockDamaged("missing", path.name) from error
    if filled < max(_HEADER_AT, size):
        raise BlockDamaged(f"cut off after {filled} bytes", f"{path.name}, first bytes")
    return view
