"""Blocks of chunks that were packed while they were read, and the loader that makes the same pod of them again.

A block holds all layers of some tokens: proximal ones as they are, distant ones packed. See
engine.kvcache.quantized_store.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.core.pinned_staging import Staging, to_host
from engine.kvcache.exact import PodBlock, check_whole
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import QuantizedPod
from engine.kvcache.quantized_store import QuantizedStore

KIND = "packed chunk"


def leaving(store: QuantizedStore, start: int, stop: int, room: int = 0) -> Callable[[], PodBlock]:
    """A copy of a chunk's bytes on its way to host memory, to `room` bytes at least; the call that waits for it."""
    arrived, meta = to_host(store.gather(start, stop), room), {**_facts(store), "start": start, "stop": stop}
    return lambda: PodBlock(start, stop, meta, arrived().numpy().data.cast("B"))


def from_block(store: QuantizedStore, meta: Mapping[str, Any], payload: memoryview) -> tuple[int, int, Tensor]:
    """The start, the stop and the bytes (n,) of a block of this store's pod. Raises PodMismatch on a foreign one."""
    wanted = _facts(store)
    found = {name: meta.get(name) for name in wanted}
    if found != wanted:
        raise PodMismatch(f"a block of {found} does not fit a pod of {wanted}")
    start, stop = int(meta["start"]), int(meta["stop"])
    if not (0 <= start < stop <= store.held and store.is_cut(stop) and (start == 0 or store.is_cut(start))):
        raise PodMismatch(f"a block of tokens {start}..{stop} is no chunk of {store.held}")
    if store.num_bytes(start, stop) != len(payload):
        raise PodMismatch(f"a block of {len(payload)} bytes cannot hold tokens {start}..{stop}")
    return start, stop, torch.frombuffer(payload, dtype=torch.uint8)


def _facts(store: QuantizedStore) -> dict[str, Any]:
    """What all blocks of a pod have in common; the section's length says which tokens are near."""
    recipe, dtype = str(store.layout.recipe), str(store.shape.dtype).removeprefix("torch.")
    return {"kind": KIND, "recipe": recipe, "dtype": dtype, "tokens": store.num_tokens}


class ChunkLoader:
    """Puts stored blocks together, in any order and from several threads: the pod of a section, or of its beginning.

    `num_tokens` are those of the section, `held` those that blocks are there for.
    """

    def __init__(
        self,
        layout: Layout,
        shape: KVShape,
        num_tokens: int,
        device: torch.device,
        staging: Staging | None = None,
        held: int | None = None,
    ) -> None:
        self._store = QuantizedStore(layout, shape, num_tokens, device, held)
        self._staging = staging or Staging(device)
        self._ranges: list[tuple[int, int]] = []

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to, until it is added."""
        return self._staging.room(num_bytes)

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Copy a verified block to its places. Raises PodMismatch on a foreign one, of which nothing is copied."""
        start, stop, host = from_block(self._store, meta, payload)
        with self._staging.sending(*self._store.rooms):
            self._store.scatter(start, stop, host.to(self._store.device, non_blocking=True))
        self._ranges.append((start, stop))

    def finish(self) -> QuantizedPod:
        """The pod, whole for whatever the current stream does next. Raises PodMismatch where tokens are missing or
        came twice."""
        check_whole(self._ranges, 0, self._store.held)
        self._staging.join()
        return self._store.pod()
