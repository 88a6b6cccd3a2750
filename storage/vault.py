"""The vault of a home: a key under which its files are sealed, so that without it none of them can be read.

    DOCPODE1 | 16 bytes that the file's own key is made of | pieces: AES-256-GCM, 64 KiB each and 16 bytes more

The nonce of a piece is its number, and whether it is the last one: pieces cannot be exchanged, nor a file be cut. The
key is random; what is kept of it, twice, in `vault.json` is sealed itself by what Argon2id makes of the passphrase.
"""

import errno
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from storage.durable import atomic_file
from storage.errors import HomeLocked
from storage.object_store import put, store_of

By = Literal["passphrase", "keyring"]
FILE = "vault.json"
MAGIC = b"DOCPODE1"
_SALT_BYTES = 16
_HEAD_BYTES = len(MAGIC) + _SALT_BYTES
_PIECE_BYTES = 1 << 16
_TAG_BYTES = 16
_MEMORY = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")
"""Folders of systems that keep them in memory."""


class Broken(OSError, ValueError):
    """A sealed file is not what was written, which the system would call a bad message."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EBADMSG, "not what was sealed", str(path))


@dataclass(frozen=True)
class Header:
    """What is known of a vault without its key."""

    name: str
    salt: str
    sealed_key: str
    by: By
    """Where the passphrase is kept: in its user's head, or in the keyring of the system."""
    state: Literal["encrypting", "encrypted", "decrypting"]

    @classmethod
    def new(cls) -> "Header":
        """Of a vault that nothing is in yet, and that no passphrase opens."""
        return cls(secrets.token_hex(4), "", "", "passphrase", "encrypting")

    @classmethod
    def read(cls, root: Path) -> "Header | None":
        """That of a home; None where the home is plain. Raises HomeLocked where it is lost."""
        copies = _copies(root)
        for path in copies:
            try:
                facts = json.loads(path.read_bytes())
                header = cls(**facts["header"])
                if facts["check"] == header._check():
                    return header
            except (OSError, ValueError, LookupError, TypeError):
                continue
        files = (path for name in ("documents", "pods") for path in islice((root / name).glob("[0-9a-f]*"), 8))
        if any(path.exists() for path in copies) or any(map(is_sealed, files)):
            raise HomeLocked("lost")
        return None

    def write(self, root: Path) -> None:
        """Keep it, twice, where it is not kept so already."""
        text = json.dumps({"header": asdict(self), "check": self._check()}).encode()
        for path in _copies(root):
            if not path.exists() or path.read_bytes() != text:
                with atomic_file(path, len(text)) as file:
                    file.write(text)

    def _check(self) -> str:
        return blake3(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def key(self, passphrase: str) -> bytes:
        """The key of the files. Raises HomeLocked."""
        try:
            sealed = bytes.fromhex(self.sealed_key)
            return AESGCM(_made_of(passphrase, self.salt)).decrypt(sealed[:12], sealed[12:], self.name.encode())
        except InvalidTag as error:
            raise HomeLocked("wrong", self.by) from error

    def under(self, passphrase: str, by: By, key: bytes = b"") -> "Header":
        """The same vault, which this passphrase opens from now on; with a new key, or the one that it has."""
        salt, nonce = secrets.token_hex(_SALT_BYTES), secrets.token_bytes(12)
        sealed = nonce + AESGCM(_made_of(passphrase, salt)).encrypt(
            nonce, key or secrets.token_bytes(32), self.name.encode()
        )
        return replace(self, salt=salt, sealed_key=sealed.hex(), by=by)


@dataclass(frozen=True)
class Vault:
    """An open vault."""

    key: bytes
    scratch: Path
    """A folder outside of the home for what must be plain for a while, in memory where the system has such folders."""


_OPEN: dict[Path, list[Vault]] = {}
"""By home, as a system's table of mounted disks: whatever opens a file of a home finds its key here."""


@contextmanager
def unlocked(
    root: Path, passphrase: Callable[[Header], str], unfinished: bool = False, also: Path | None = None
) -> Iterator[Header | None]:
    """While this lasts the files of a home, and of a folder that it `also` has, can be read and written, if it is
    sealed. Raises HomeLocked, unless `unfinished` also where it is neither sealed nor plain as a whole.
    """
    if (header := Header.read(root)) is None:
        yield None
        return
    if header.state != "encrypted" and not unfinished:
        raise HomeLocked(header.state, header.by)
    key = header.key(passphrase(header))
    if os.access(root, os.W_OK):
        header.write(root)
    with _scratch(header.name) as scratch:
        vault = Vault(key, scratch)
        folders = {root, also or root}
        for folder in folders:
            _OPEN.setdefault(folder, []).append(vault)
        try:
            yield header
        finally:
            for folder in folders:
                _OPEN[folder].remove(vault)


def vault_of(path: Path) -> Vault | None:
    """The open vault of the home that a file lies in; None where that is plain."""
    return next((_OPEN[each][-1] for each in (path, *path.parents) if _OPEN.get(each)), None)


def remove_left(root: Path, header: Header) -> None:
    """Remove the temporary files of processes that were killed, where no other one has the home open."""
    own = _OPEN[root][-1].scratch
    for left in own.parent.glob(f"docpod-{header.name}-*"):
        if left != own:
            shutil.rmtree(left, ignore_errors=True)


def is_sealed(path: Path) -> bool:
    """Whether a file begins as sealed ones do."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def opened(path: Path) -> io.RawIOBase:
    """The bytes of a file, of a sealed one what was sealed. Raises OSError, of which one is Broken."""
    vault = vault_of(path)
    if store := store_of(path):
        store.fetch(path)
    return _SealedFile(path, vault.key) if vault else path.open("rb", buffering=0)


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, as `opened`."""
    with opened(path) as file:
        return file.read()


@contextmanager
def sealed_file(path: Path, num_bytes: int) -> Iterator[BinaryIO]:
    """As `atomic_file`, sealed where the home has a vault; first in its store, if it has one. Raises StorageAway."""
    vault = vault_of(path)
    with atomic_file(path, num_bytes, partial(put, path)) as file:
        if vault is None:
            yield file
            return
        sealing = _Sealing(file, vault.key)
        yield cast(BinaryIO, sealing)
        sealing.end()


class _SealedFile(io.RawIOBase):
    """What was sealed in a file, at any place of it."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path, self._at = path, 0
        self._file = path.open("rb")
        head = self._file.read(_HEAD_BYTES)
        body = self._file.seek(0, os.SEEK_END) - _HEAD_BYTES
        self._pieces = -(-body // (_PIECE_BYTES + _TAG_BYTES))
        self._size = body - self._pieces * _TAG_BYTES
        if not head.startswith(MAGIC) or self._size < 0 or not self._pieces:
            self.close()
            raise Broken(path)
        self._cipher = _cipher(key, head[len(MAGIC) :])

    def readinto(self, buffer: Any) -> int:
        """Up to the end of a piece."""
        view, (number, skip) = memoryview(buffer).cast("B"), divmod(self._at, _PIECE_BYTES)
        if self._at >= self._size and self._size:
            return 0
        self._file.seek(_HEAD_BYTES + number * (_PIECE_BYTES + _TAG_BYTES))
        sealed = self._file.read(_PIECE_BYTES + _TAG_BYTES)
        try:
            piece = self._cipher.decrypt(_nonce(number, number == self._pieces - 1), sealed, None)
        except InvalidTag as error:
            raise Broken(self._path) from error
        part = piece[skip : skip + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


class _Sealing(io.RawIOBase):
    """Seals what is written."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        salt = secrets.token_bytes(_SALT_BYTES)
        self._file, self._cipher = file, _cipher(key, salt)
        self._left, self._number = bytearray(), 0
        file.write(MAGIC + salt)

    def write(self, data: Any) -> int:
        """All of it; the last piece is kept back, since it must be known to be that."""
        view = memoryview(data).cast("B")
        for at in range(0, len(view), _PIECE_BYTES):
            self._left += view[at : at + _PIECE_BYTES]
            if len(self._left) > _PIECE_BYTES:
                self._seal(self._left[:_PIECE_BYTES], False)
                del self._left[:_PIECE_BYTES]
        return len(view)

    def end(self) -> None:
        """Seal the rest."""
        self._seal(self._left, True)

    def writable(self) -> bool:
        return True

    def _seal(self, piece: bytearray, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, is_last), piece, None))
        self._number += 1


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    """Where temporary files of this process go."""
    parent = Path(next((each for each in _MEMORY if each and os.access(each, os.W_OK)), tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"docpod-{name}-", dir=parent))
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        if tempfile.tempdir == str(folder):
            tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)


def _copies(root: Path) -> tuple[Path, Path]:
    return root / FILE, root / "backups" / FILE


def _made_of(passphrase: str, salt: str) -> bytes:
    """By the second choice of RFC 9106: 64 MiB, three times."""
    return Argon2id(salt=bytes.fromhex(salt), length=32, iterations=3, lanes=4, memory_cost=1 << 16).derive(
        passphrase.encode()
    )


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(blake3(salt, key=key).digest())


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
