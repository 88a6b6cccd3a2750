"""Corpus: text to post-train on, from files and folders, as token ids; a share of the texts is held out for good."""

import gzip
import hashlib
import html
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.compression.sample_text import sample_text
from engine.core.atomic import atomic_write
from engine.models.tokenizer import Tokenizer
from engine.training.errors import AdaptationFailed

SUFFIXES = (".txt", ".md", ".rst", ".html", ".htm")
HELD_SHARE = 0.05
FEW = 16
"""Fewer texts than this are cut into parts, so that a share of them can be held out."""
PART_CHARS = 20_000
BATCH_TEXTS = 64
SEPARATOR = "\n\n"

_HIDDEN = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>")
_BREAKS = re.compile(r"(?i)</?(p|br|div|li|h\d|tr|pre|dt|dd)\b[^>]*>")
_TAG = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Corpus:
    """Token ids (T,) to train on, and those of the texts held out, of which nothing is in `train`."""

    train: NDArray[np.int32]
    held: NDArray[np.int32]
    num_texts: int
    num_held: int


def read_texts(paths: Sequence[Path]) -> Iterator[str]:
    """The texts of files and folders (.txt .md .rst .html, and .gz of those), in the order of their names.

    Without paths: the reference texts that come with Python. Raises AdaptationFailed for what cannot be read.
    """
    if not paths:
        yield sample_text()
    for path in paths:
        if not path.exists():
            raise AdaptationFailed(f"{path} does not exist; give text files, or folders of them")
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _is_text(file))
        if not files:
            raise AdaptationFailed(f"{path} holds no files of {', '.join(SUFFIXES)} or .gz of those")
        yield from map(_read, files)


def is_held_out(text: str, share: float = HELD_SHARE) -> bool:
    """Whether a text is never trained on: by its own hash, whatever it is called and whatever lies beside it."""
    return _place(text) < share


def load(tokenizer: Tokenizer, digest: str, texts: Sequence[str], folder: Path, max_tokens: int) -> Corpus:
    """Texts as ids of the tokenizer that `digest` names. They are kept in `folder`: the next call only reads them.

    Equal texts count once; beyond `max_tokens` no more texts are taken to train on, in an order that their hashes
    give. Raises AdaptationFailed where nothing is left to train on.
    """
    unique = sorted(set(_parts(texts)), key=_place)
    held = [text for text in unique if is_held_out(text)] or unique[:1]
    train = unique[: len(held) - 1 : -1]
    if not train:
        raise AdaptationFailed("there is too little text: none is left to train on besides what is held out")
    total = hashlib.sha256(f"{digest} {max_tokens} {SEPARATOR}".encode())
    for text in unique:
        total.update(hashlib.sha256(text.encode()).digest())
    path = folder / f"tokens-{total.hexdigest()[:16]}.npz"
    if not path.exists():
        tokens = _tokens(tokenizer, train, max_tokens), _tokens(tokenizer, held, max_tokens // 10 + 1)
        with atomic_write(path) as scratch, scratch.open("wb") as file:
            np.savez(file, train=tokens[0], held=tokens[1])
    with np.load(path) as file:
        return Corpus(file["train"], file["held"], len(unique), len(held))


def plain(page: str) -> str:
    """The text of an HTML page."""
    page = _BREAKS.sub("\n", _HIDDEN.sub(" ", page))
    page = re.sub(r"[ \t]+", " ", html.unescape(_TAG.sub("", page)))
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", page).strip()


def _is_text(file: Path) -> bool:
    return file.is_file() and Path(file.name.removesuffix(".gz")).suffix.lower() in SUFFIXES


def _read(file: Path) -> str:
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise AdaptationFailed(f"{file} cannot be read: {error}") from error
    text = raw.decode("utf-8-sig", "replace")
    return plain(text) if Path(file.name.removesuffix(".gz")).suffix.lower() in (".html", ".htm") else text


def _parts(texts: Sequence[str]) -> list[str]:
    """The texts, or where there are few of them their parts of about 20,000 characters, cut at ends of paragraphs."""
    if len(texts) >= FEW:
        return [text for text in texts if text.strip()]
    parts = []
    for text in texts:
        start = 0
        while start < len(text):
            cut = text.find("\n\n", start + PART_CHARS)
            stop = min(start + 2 * PART_CHARS, len(text) if cut < 0 else cut)
            parts.append(text[start:stop])
            start = stop
    return [part for part in parts if part.strip()]


def _place(text: str) -> float:
    """A number in 0..1 that the text's hash gives."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _tokens(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> NDArray[np.int32]:
    parts: list[NDArray[np.int32]] = []
    count = 0
    for start in range(0, len(texts), BATCH_TEXTS):
        for ids in tokenizer.encode_all([text + SEPARATOR for text in texts[start : start + BATCH_TEXTS]]):
            parts.append(np.array(ids, np.int32))
            count += len(ids)
        if count >= most:
            break
    return np.concatenate(parts)[:most]
