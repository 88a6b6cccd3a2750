"""The wire: rows, arrays and failures as plain values, one line of JSON each, between a page and its replicas."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from engine.core.errors import EngineError, PodMismatch
from storage import Block, Section, StorageError, StorageFull

Values = dict[str, Any]
_BLOCK = ("position", "start_token", "stop_token", "file_name", "num_bytes", "checksum")
_SECTION = ("identity", "num_tokens", "state")


class ReplicaFailed(AppError):
    """A replica could not do what it was asked."""


def blocks_out(blocks: Iterable[Block]) -> list[Values]:
    """Rows of blocks as values."""
    return [{name: getattr(each, name) for name in _BLOCK} for each in blocks]


def blocks_in(values: Iterable[Values]) -> list[Block]:
    """The rows again. Raises PodMismatch for a file name that leads elsewhere."""
    blocks = [Block(**{name: each[name] for name in _BLOCK}) for each in values]
    if wrong := [each.file_name for each in blocks if Path(each.file_name).name != each.file_name]:
        raise PodMismatch(f"{wrong[0]!r} is no name of a block")
    return blocks


def section_out(section: Section) -> Values:
    """What a replica needs of a section."""
    return {"id": section.id, **{name: getattr(section, name) for name in _SECTION}}


def section_in(values: Values) -> Section:
    """The row again, without its place in the document."""
    facts = {name: values[name] for name in _SECTION}
    section = Section(position=0, first_page=0, last_page=0, start_char=0, end_char=0, token_ids=b"", **facts)
    section.id = values["id"]
    return section


def array_out(array: NDArray[np.float32]) -> str:
    """An array (T,) of float32 as text."""
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def array_in(text: str) -> NDArray[np.float32]:
    """The array again."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def failure_out(error: AppError | EngineError | StorageError | OSError) -> Values:
    """What went wrong, for the page to raise, or to wait for: a store may be there again in a moment."""
    match error:
        case StorageFull():
            return {"error": "StorageFull", "numbers": [error.needed_bytes, error.free_bytes]}
        case AppError():
            return {"error": "", "message": error.message, "hint": error.hint}
        case PodMismatch():
            return {"error": "PodMismatch", "message": str(error)}
        case EngineError():
            return {"error": "", "message": f"{error}.", "hint": "The log of the replica may say more."}
        case _:
            return {"away": f"{type(error).__name__}: {error}"}


def raise_failure(values: Mapping[str, Any]) -> None:
    """Raise what a replica said that went wrong, if it did."""
    match values.get("error"):
        case None:
            return
        case "StorageFull":
            raise StorageFull(*values["numbers"])
        case "PodMismatch":
            raise PodMismatch(values["message"])
    raise ReplicaFailed(values["message"], values["hint"])
