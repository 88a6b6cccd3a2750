"""Where a pod lies: on the device, in host memory, or in files, each with a way back that verifies what it reads.

The files are plain: facts as JSON, bytes, and a BLAKE3 checksum over both, at the cost of the app's store.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from blake3 import blake3
from torch import Tensor

from engine import packed_chunks
from engine.errors import PodMismatch
from engine.layout import Layout
from engine.models import Model
from engine.packed_blocks import PackedLoader, to_blocks
from engine.packed_chunks import ChunkLoader
from engine.packed_pod import PackedPod
from engine.pod import Block, Pod, PodLoader, to_block

_WORKERS = 4
_BLOCK_TOKENS = 512
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

    def write(self, block: Block) -> int:
        """Write a block and have it on the disk; returns its bytes."""
        facts = json.dumps(dict(block.meta)).encode()
        digest = blake3(facts).update(block.payload).digest()
        number = len(list(self._path.glob("*.block")))
        with (self._path / f"{number:06d}.block").open("wb") as file:
            file.write(len(facts).to_bytes(8, "little") + digest + facts)
            file.write(block.payload)
            file.flush()
            os.fsync(file.fileno())
        return len(block.payload)

    def write_pod(self, pod: Pod | PackedPod) -> int:
        """Write a whole pod; returns its bytes."""
        return sum(self.write(block) for block in _blocks(pod))

    def clear(self) -> None:
        """Drop all blocks."""
        for path in self._path.glob("*.block"):
            path.unlink()

    def load(self, model: Model, layout: Layout, num_tokens: int) -> Pod | PackedPod:
        """The pod, verified, on the model's device. Raises PodMismatch."""
        paths = sorted(self._path.glob("*.block"))
        facts = model.shape, num_tokens, model.device
        loader: PodLoader | PackedLoader | ChunkLoader = PodLoader(*facts)
        if not layout.recipe.exact:
            # Which of the two a packed pod is stored in says how it was made.
            chunks = bool(paths) and _kind(paths[0]) == packed_chunks.KIND
            loader = ChunkLoader(layout, *facts) if chunks else PackedLoader(layout, *facts)

        def add(path: Path) -> None:
            raw = bytearray(path.stat().st_size)
            with path.open("rb", buffering=0) as file:
                file.readinto(raw)
            view = memoryview(raw)
            start = 40 + int.from_bytes(view[:8], "little")
            if blake3(view[40:]).digest() != view[8:40]:
                raise PodMismatch(f"{path.name} is damaged")
            loader.add(json.loads(bytes(view[40:start])), view[start:])

        with ThreadPoolExecutor(_WORKERS) as threads:
            list(threads.map(add, paths))
        return loader.finish()


def _kind(path: Path) -> object:
    with path.open("rb") as file:
        head = file.read(40)
        return json.loads(file.read(int.from_bytes(head[:8], "little"))).get("kind")


def _blocks(pod: Pod | PackedPod) -> Iterator[Block]:
    if isinstance(pod, PackedPod):
        yield from to_blocks(pod)
        return
    for start in range(0, pod.num_tokens, _BLOCK_TOKENS):
        stop = min(start + _BLOCK_TOKENS, pod.num_tokens)
        yield to_block(pod.keys[:, :, start:stop], pod.values[:, :, start:stop], start)


def _moved(part: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed; what a layout knows of its model stays where it is."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, Sequence) and not isinstance(part, str):
        return tuple(_moved(each, change) for each in part)
    if is_dataclass(part) and not isinstance(part, Layout | type):
        return replace(part, **{each.name: _moved(getattr(part, each.name), change) for each in fields(part)})
    return part
