"""Where a pod lies: on the device, in host memory, or in files, each with a way back that verifies what it reads.

The files are plain: facts as JSON, bytes, and a BLAKE3 checksum over both, read in the app's way and at its cost.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from blake3 import blake3
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.pinned_staging import Staging
from engine.kvcache.blocks import by_chunk, by_layer
from engine.kvcache.blocks.by_chunk import ChunkLoader
from engine.kvcache.blocks.by_layer import QuantizedLoader
from engine.kvcache.blocks.load import Source, load
from engine.kvcache.exact import ExactPod, PodBlock, PodLoader, to_blocks
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import AnyPod, QuantizedPod
from engine.models.loader import Model

_HEAD_BYTES = 40
"""The length of the facts, and the checksum."""
_ALIGNMENT = 64
"""Of the bytes behind the facts."""
_PIECE_BYTES = 1 << 20
_SHARE_BYTES = 4 << 20
"""Read and digested at once by one thread, and by each of several, as in the app's store."""
_Part = TypeVar("_Part")


def to_host(pod: _Part) -> _Part:
    """A copy in host memory, pinned where there is a GPU."""
    moved: _Part = _moved(pod, lambda each: each.cpu().pin_memory() if torch.cuda.is_available() else each.clone())
    return moved


def to_device(pod: _Part, device: torch.device) -> _Part:
    """A copy on the device; it may still be under way."""
    moved: _Part = _moved(pod, lambda each: each.to(device, non_blocking=True))
    return moved


class Folder:
    """A folder of blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, block: PodBlock) -> int:
        """Write a block and have it on the disk; returns its bytes."""
        facts = json.dumps(dict(block.meta)).encode()
        facts += b" " * (-(_HEAD_BYTES + len(facts)) % _ALIGNMENT)
        length = len(facts).to_bytes(8, "little")
        digest = blake3(length + facts, max_threads=blake3.AUTO).update(block.payload).digest()
        number = len(list(self._path.glob("*.block")))
        with (self._path / f"{number:06d}.block").open("wb") as file:
            file.write(length + digest + facts)
            file.write(block.payload)
            file.flush()
            os.fsync(file.fileno())
        return len(block.payload)

    def write_pod(self, pod: ExactPod | QuantizedPod) -> int:
        """Write a whole pod; returns its bytes."""
        blocks = by_layer.to_blocks(pod) if isinstance(pod, QuantizedPod) else to_blocks(pod)
        return sum(map(self.write, blocks))

    def clear(self) -> None:
        """Drop all blocks."""
        for path in self._path.glob("*.block"):
            path.unlink()

    def load(self, model: Model, layout: Layout, num_tokens: int, staging: Staging) -> AnyPod:
        """The pod, verified, on the model's device. Raises PodMismatch."""
        paths = sorted(self._path.glob("*.block"))
        sources = [Source(path.stat().st_size, partial(_verified, path)) for path in paths]
        facts = model.shape, num_tokens, model.device, staging
        if layout.recipe.exact:
            return load(PodLoader(*facts), sources)
        # Which of the two a packed pod is stored in says how it was made.
        if paths and _kind(paths[0]) == by_chunk.KIND:
            return load(ChunkLoader(layout, *facts), sources)
        return load(QuantizedLoader(layout, *facts), sources)


def _verified(path: Path, buffer: memoryview, threads: int) -> tuple[Mapping[str, Any], memoryview]:
    """A block's facts and bytes, read to a buffer by so many threads. Raises PodMismatch."""
    share = _PIECE_BYTES if threads == 1 else _SHARE_BYTES
    digest = blake3(max_threads=threads)
    with ThreadPoolExecutor(threads) as pool:
        read = map if threads == 1 else pool.map
        for start in range(0, len(buffer), threads * share):
            piece = buffer[start : start + threads * share]
            places = range(0, len(piece), share)
            list(read(partial(_fill, path), (piece[at : at + share] for at in places), (start + at for at in places)))
            # The checksum is not over itself.
            digest.update(piece[:8] if start == 0 else piece)
            digest.update(piece[_HEAD_BYTES:] if start == 0 else b"")
    if digest.digest() != buffer[8:_HEAD_BYTES]:
        raise PodMismatch(f"{path.name} is damaged")
    start = _HEAD_BYTES + int.from_bytes(buffer[:8], "little")
    return json.loads(bytes(buffer[_HEAD_BYTES:start])), buffer[start:]


def _fill(path: Path, view: memoryview, start: int) -> None:
    """Read exactly so many bytes from a place on. Raises PodMismatch where there are fewer."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        filled = 0
        while filled < len(view):
            count = file.readinto(view[filled:])
            if not count:
                raise PodMismatch(f"{path.name} is cut off")
            filled += count


def _kind(path: Path) -> object:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        return json.loads(file.read(int.from_bytes(head[:8], "little"))).get("kind")


def _moved(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed; what a layout knows of its model stays where it is."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, Sequence) and not isinstance(part, str):
        return tuple(_moved(each, change) for each in part)
    if is_dataclass(part) and not isinstance(part, Layout | type):
        return replace(part, **{each.name: _moved(getattr(part, each.name), change) for each in fields(part)})
    return part
