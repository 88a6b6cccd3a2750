"""Portable documents: a read document as one archive (`.docpod`), and what it must be before anything of it is kept.

    docpod.json | original | conversations.json | pods/0 | pods/1 | ...

A ZIP archive whose members are stored unpacked, so that none can be larger than the archive. The first lists the others
with their sizes and digests; there is nothing else in it. Pages are made of the original again, and memory is taken
only for sections that this program would read from them by the same model and recipe (`Section.identity`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import isfinite
from pathlib import Path
from shutil import copyfileobj
from typing import IO, ClassVar
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pydantic import ConfigDict, TypeAdapter

from app.errors import DamagedDocument, DiskFull, UnsupportedFile
from app.events import Turn
from storage import Block, digest_of, opened

SUFFIX = ".docpod"
FORMAT = 1
LIST = "docpod.json"
_ORIGINAL, _CONVERSATIONS = "original", "conversations.json"
_MOST_BYTES = 32 << 20
"""Of the list, and of the conversations."""
_PIECE_BYTES = 1 << 20
_HEADER_BYTES = 30
"""Before a member's name (ZIP APPNOTE 4.3.7)."""
_NO_ARCHIVE = (BadZipFile, EOFError, LookupError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` and `pydantic` raise about foreign bytes."""


@dataclass(frozen=True)
class Part:
    """A member and what it holds."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Kept:
    """A block of a section's memory; the fields are those of `storage.Block`."""

    section: str
    """Its identity: sha256 over the reader's digest and the token ids."""
    position: int
    start_token: int
    stop_token: int
    num_bytes: int
    checksum: str

    @property
    def block(self) -> Block:
        """A row that names no file yet."""
        facts = {key: value for key, value in vars(self).items() if key != "section"}
        return Block(**facts, file_name="")


@dataclass(frozen=True)
class Manifest:
    """What the archive is of, and its parts in their order."""

    file_name: str
    title: str
    """As its user calls it; empty where he has not said."""
    recipe: str
    parts: tuple[Part, ...]
    blocks: tuple[Kept, ...]
    """Those of pods/0, pods/1, ..."""
    tags: tuple[str, ...] = ()
    format: int = FORMAT
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Talk:
    """A conversation about the document."""

    title: str
    turns: tuple[Turn, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every question is at its end, with figures that can be shown."""
        figures = [each for turn in self.turns for each in vars(turn.answer).values() if isinstance(each, float)]
        return all(turn.state in ("done", "stopped", "failed") for turn in self.turns) and all(map(isfinite, figures))


MANIFEST, TALKS = TypeAdapter(Manifest), TypeAdapter(tuple[Talk, ...])


def is_portable(path: Path) -> bool:
    """Whether a file begins as such an archive does."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES + len(LIST))
    return head.startswith(b"PK\x03\x04") and head[_HEADER_BYTES:] == LIST.encode()


def pack(
    out: Path,
    file_name: str,
    title: str,
    original: Path,
    talks: Sequence[Talk],
    recipe: str,
    blocks: Sequence[tuple[str, Block, Path]],
    tags: Sequence[str] = (),
) -> None:
    """Write the archive; each block with its section's identity and its file. Raises OSError."""
    said = TALKS.dump_json(tuple(talks))
    files = {_ORIGINAL: original} | {f"pods/{number}": path for number, (_, _, path) in enumerate(blocks)}
    parts = [Part(_ORIGINAL, original.stat().st_size, digest_of(original))]
    parts += [Part(f"pods/{n}", each.num_bytes, digest_of(path)) for n, (_, each, path) in enumerate(blocks)]
    parts.insert(1, Part(_CONVERSATIONS, len(said), hashlib.sha256(said).hexdigest()))
    kept = (
        Kept(identity, each.position, each.start_token, each.stop_token, each.num_bytes, each.checksum)
        for identity, each, _ in blocks
    )
    with ZipFile(out, "w", ZIP_STORED) as archive:
        manifest = Manifest(file_name, title, recipe, tuple(parts), tuple(kept), tuple(tags))
        archive.writestr(LIST, MANIFEST.dump_json(manifest))
        for part in parts:
            member = ZipInfo(part.name)
            member.file_size = part.num_bytes
            source = opened(files[part.name]) if part.name in files else BytesIO(said)
            with source, archive.open(member, "w") as copy:
                copyfileobj(source, copy, _PIECE_BYTES)


def unpack(path: Path, folder: Path, free_bytes: int) -> tuple[Manifest, tuple[Talk, ...]]:
    """Check an archive whole and put its parts into an empty folder: its list, `original`, and blocks as `pods-0`.

    Raises UnsupportedFile for one of another format, DamagedDocument for one that is not as it says, and DiskFull.
    """
    try:
        with ZipFile(path) as archive:
            first, *members = archive.infolist()
            size = sum(each.file_size for each in (first, *members))
            if size > path.stat().st_size or any(each.compress_type != ZIP_STORED for each in (first, *members)):
                raise ValueError("its parts are larger than it is, or packed")
            if first.filename != LIST or first.file_size > _MOST_BYTES:
                raise ValueError("it does not begin with a list of its parts")
            listed = archive.read(first)
            if TypeAdapter(dict).validate_json(listed).get("format") != FORMAT:
                raise UnsupportedFile(
                    "The archive is of another version of DocPod.", "Import it with that one, or export it anew."
                )
            manifest = MANIFEST.validate_json(listed)
            names = [_ORIGINAL, _CONVERSATIONS, *(f"pods/{number}" for number in range(len(manifest.blocks)))]
            if names != [each.filename for each in members] or names != [each.name for each in manifest.parts]:
                raise ValueError("it has other parts than it lists")
            if size > free_bytes:
                raise DiskFull(size, free_bytes)
            for name, part, member in zip(names, manifest.parts, members, strict=True):
                with archive.open(member) as source, (folder / name.replace("/", "-")).open("xb") as copy:
                    if member.file_size != part.num_bytes or _copied(source, copy) != part.sha256:
                        raise ValueError(f"{part.name} is not what it was")
        (folder / LIST).write_bytes(listed)
        said = folder / _CONVERSATIONS
        if said.stat().st_size > _MOST_BYTES:
            raise ValueError("its conversations are too long")
        talks = TALKS.validate_json(said.read_bytes())
        if not all(each.is_whole for each in talks):
            raise ValueError("it has a question without an end")
        return manifest, talks
    except _NO_ARCHIVE as error:
        why = str(error).split("\n")[0]
        raise DamagedDocument(
            f"The archive cannot be imported: {why}.", "Export it once more where it is from."
        ) from error


def _copied(source: IO[bytes], copy: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        copy.write(piece)
    return digest.hexdigest()
