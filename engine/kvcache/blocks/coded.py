"""Blocks of a pod that is kept coded: exact in memory, on the disk what a basis and one step size leave of it.

Every component of a token's keys and values (engine.kvcache.basis) is rounded to a multiple of the step, so that those
of little spread become zero by themselves (reverse water-filling), and the integers are stored component by component
under zstd. The first and last tokens stay as they are.

Letters: L layers, G KV heads, C tokens of a block, D head size, R directions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.kvcache.basis import Basis
from engine.kvcache.exact import Pod, PodBlock, PodLoader, leaving
from engine.kvcache.layout import Layout
from engine.models.loader import Model

KIND = "coded"
BLOCK_TOKENS = 1024
LEVEL = 9
"""Of zstd: what it finds at higher ones is not worth the time."""
LEAST = 0.3
"""Directions whose spread is this many steps are coded; along the others hardly a token is not rounded to zero."""


def to_blocks(pod: Pod, layout: Layout) -> Iterator[PodBlock]:
    """The pod as blocks, first tokens first."""
    far = layout.recipe.distant(pod.num_tokens)
    cuts = [0, *range(far.start, far.stop, BLOCK_TOKENS), far.stop, pod.num_tokens]
    for start, stop in pairwise(cuts):
        if start in far:
            yield _block(pod, layout, start, stop)
        elif start < stop:
            yield leaving([(pod.keys[:, :, start:stop], pod.values[:, :, start:stop])], start)()


def _block(pod: Pod, layout: Layout, start: int, stop: int) -> PodBlock:
    basis, step = basis_of(layout), layout.recipe.coding.step
    some = slice(start, stop)
    sides = basis.analyse(pod.keys[:, :, some], pod.values[:, :, some], pod.positions[some], LEAST * step)
    packed = [encode((side / step).round().cpu().numpy().T) for side in sides]
    meta = {
        "kind": KIND,
        "recipe": str(layout.recipe),
        "basis": basis.digest,
        "dtype": str(pod.keys.dtype).removeprefix("torch."),
        "start": start,
        "wide": [wide for wide, _ in packed],
        "sizes": [len(data) for _, data in packed],
    }
    return PodBlock(start, stop, meta, memoryview(b"".join(data for _, data in packed)))


def basis_of(layout: Layout) -> Basis:
    """A coded layout has one."""
    assert layout.basis is not None
    return layout.basis


def encode(rows: NDArray[np.float32]) -> tuple[int, bytes]:
    """Whole numbers (R, C) under zstd, and how many rows of them, from the first, need two bytes a number."""
    whole = np.ascontiguousarray(rows, np.int16)
    large = np.flatnonzero(np.abs(whole).max(1, initial=0) > np.iinfo(np.int8).max)
    wide = int(large[-1]) + 1 if len(large) else 0
    # The high bytes apart, since nearly all of them are alike.
    halves = whole[:wide].view(np.int8).reshape(wide, whole.shape[1], 2)
    data = halves[..., 0].tobytes() + halves[..., 1].tobytes() + whole[wide:].astype(np.int8).tobytes()
    return wide, zstandard.ZstdCompressor(LEVEL).compress(data)


def decode(data: memoryview, wide: int, count: int, tokens: int) -> NDArray[np.float32]:
    """The numbers (R, C), of `count` directions and so many tokens, again. Raises PodMismatch on anything else."""
    size = (count + wide) * tokens
    try:
        flat = np.frombuffer(zstandard.ZstdDecompressor().decompress(data, max_output_size=size), np.int8)
    except zstandard.ZstdError as error:
        raise PodMismatch(f"a coded block is damaged: {error}") from error
    if not 0 <= wide <= count or len(flat) != size:
        raise PodMismatch(f"a coded block holds {len(flat)} bytes, expected {size}")
    halves = np.stack([flat[: wide * tokens], flat[wide * tokens : 2 * wide * tokens]], -1).view(np.int16)
    return np.concatenate([halves.reshape(wide, tokens), flat[2 * wide * tokens :].reshape(-1, tokens)]).astype(
        np.float32
    )


class CodedLoader:
    """Puts the blocks of a coded pod together: an exact one, of rounded numbers. From several threads at once."""

    def __init__(
        self, layout: Layout, shape: KVShape, num_tokens: int, device: torch.device, staging: Any = None
    ) -> None:
        self._layout, self._shape = layout, shape
        self._exact = PodLoader(shape, num_tokens, device, staging)

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to, until it is added."""
        return nullcontext(torch.empty(num_bytes, dtype=torch.uint8).numpy().data)

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Decode a verified block to its place. Raises PodMismatch on a foreign one."""
        if meta.get("kind") != KIND:
            self._exact.add(meta, payload)
            return
        basis, recipe = basis_of(self._layout), self._layout.recipe
        dtype = str(self._shape.dtype).removeprefix("torch.")
        wanted = {"recipe": str(recipe), "basis": basis.digest, "dtype": dtype}
        if any(meta.get(name) != value for name, value in wanted.items()):
            raise PodMismatch(f"a block of {meta.get('recipe')} does not fit a pod of {wanted}")
        start, stop = int(meta["start"]), int(meta["stop"])
        first, spread = 0, LEAST * recipe.coding.step
        sides: list[Tensor] = []
        for transform, wide, size in zip((basis.keys, basis.values), meta["wide"], meta["sizes"], strict=True):
            rows = decode(payload[first : first + size], wide, transform.within(spread), stop - start)
            sides.append(torch.from_numpy(rows.T).to(transform.mean.device) * recipe.coding.step)
            first += size
        positions = torch.arange(start, stop, device=sides[0].device)
        dims = (self._shape.layers, self._shape.kv_heads, self._shape.head_dim)
        keys, values = basis.restore(sides[0], sides[1], positions, dims)
        pair = torch.stack([keys, values]).to(self._shape.dtype)
        if pair.is_cuda:
            # It is put to its place on a stream of its own.
            torch.cuda.current_stream(pair.device).synchronize()
        self._exact.put(start, [pair])

    def finish(self) -> Pod:
        """The pod, whole. Raises PodMismatch where tokens are missing or came twice."""
        pod = self._exact.finish()
        assert isinstance(pod, Pod)
        return pod


def restored(blocks: Sequence[PodBlock], layout: Layout, model: Model) -> Pod:
    """The pod that comes back of these blocks."""
    loader = CodedLoader(layout, model.shape, blocks[-1].stop, model.device)
    for block in blocks:
        loader.add({**block.meta, "stop": block.stop}, block.payload)
    return loader.finish()
