"""Blocks of a pod that is kept coded: exact in memory, on the disk what a basis and one step size leave of it.

Every component of a token's keys and values (engine.kvcache.basis) is rounded to a multiple of the step, so that those
of little spread become zero by themselves (reverse water-filling), and the integers are stored component by component
under zstd: small ones several to a byte, since its Huffman codes take a bit at least. The first and last tokens stay as
they are.

Letters: L layers, G KV heads, C tokens of a block, D head size, R directions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
LEVEL = 6
"""Of zstd: what it finds at higher ones is not worth the time."""
LEAST = 0.2
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
    packed = [encode((side / step).round().short().cpu().numpy().T) for side in sides]
    meta = {
        "kind": KIND,
        "recipe": str(layout.recipe),
        "basis": basis.digest,
        "dtype": str(pod.keys.dtype).removeprefix("torch."),
        "start": start,
        "sizes": list(map(len, packed)),
    }
    return PodBlock(start, stop, meta, memoryview(b"".join(packed)))


def basis_of(layout: Layout) -> Basis:
    """A coded layout has one."""
    assert layout.basis is not None
    return layout.basis


def encode(rows: NDArray[np.int16]) -> bytes:
    """Whole numbers (R, C) under zstd: first how each row is packed, then the rows of one packing after the other."""
    reach = np.abs(rows).max(1, initial=0)
    kinds = np.searchsorted(_REACH, reach).astype(np.uint8)
    packed = [pack(rows[kinds == kind]) for kind, (pack, _) in enumerate(_PACKINGS)]
    return zstandard.ZstdCompressor(LEVEL).compress(b"".join(each.tobytes() for each in (kinds, *packed)))


def decode(data: memoryview, count: int, tokens: int) -> NDArray[np.int16]:
    """The numbers (R, C), of `count` directions and so many tokens, again. Raises PodMismatch on anything else."""
    try:
        flat = np.frombuffer(zstandard.ZstdDecompressor().decompress(data, 2 * count * (tokens + 1)), np.uint8)
    except zstandard.ZstdError as error:
        raise PodMismatch(f"a coded block is damaged: {error}") from error
    kinds, start = flat[:count], count
    widths = [-(-tokens // 5), -(-tokens // 2), tokens, 2 * tokens]
    members = [np.flatnonzero(kinds == kind) for kind in range(len(_PACKINGS))]
    size = count + sum(len(rows) * width for rows, width in zip(members, widths, strict=True))
    if len(flat) != size or sum(map(len, members)) != count:
        raise PodMismatch(f"a coded block holds {len(flat)} bytes, expected {size}")
    found = np.empty((count, tokens), np.int16)
    for rows, width, (_, unpack) in zip(members, widths, _PACKINGS, strict=True):
        stop = start + len(rows) * width
        found[rows] = unpack(flat[start:stop].reshape(len(rows), width))[:, :tokens]
        start = stop
    return found


def _in_fives(rows: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Numbers from -1 to 1 as digits to the base of 3."""
    digits = np.pad(rows + 1, ((0, 0), (0, -rows.shape[1] % 5))).reshape(len(rows), -(-rows.shape[1] // 5), 5)
    return (digits @ 3 ** np.arange(5)).astype(np.uint8)


def _in_pairs(rows: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Numbers from -7 to 7 as digits to the base of 16."""
    digits = np.pad(rows + 7, ((0, 0), (0, rows.shape[1] % 2))).astype(np.uint8)
    return (digits[:, ::2] | digits[:, 1::2] << 4).astype(np.uint8)


def _in_halves(rows: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The high bytes apart, since nearly all of them are alike."""
    return np.concatenate([rows >> 8, rows], 1).astype(np.uint8)


def _looked_up(table: NDArray[np.int8], packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Rows of the numbers that each byte stands for."""
    return table[packed].reshape(len(packed), packed.shape[1] * table.shape[1])


_OF_FIVES = (np.arange(256)[:, None] // 3 ** np.arange(5) % 3 - 1).astype(np.int8)
_OF_PAIRS = np.stack([np.arange(256) % 16, np.arange(256) // 16], 1).astype(np.int8) - 7
_REACH = (1, 7, 127)
"""How large the numbers of a row may be for each packing but the last."""
_PACKINGS: tuple[tuple[Callable[[NDArray[np.int16]], NDArray[np.uint8]], Callable[[NDArray[np.uint8]], Any]], ...] = (
    (_in_fives, lambda packed: _looked_up(_OF_FIVES, packed)),
    (_in_pairs, lambda packed: _looked_up(_OF_PAIRS, packed)),
    (lambda rows: rows.astype(np.uint8), lambda packed: packed.view(np.int8)),
    (_in_halves, lambda packed: np.stack(np.split(packed, 2, 1)[::-1], -1).view("<i2")[..., 0]),
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
        for transform, size in zip((basis.keys, basis.values), meta["sizes"], strict=True):
            rows = decode(payload[first : first + size], transform.within(spread), stop - start)
            sides.append(torch.from_numpy(rows).to(transform.mean.device).T * recipe.coding.step)
            first += size
        positions = torch.arange(start, stop, device=sides[0].device)
        dims = (self._shape.layers, self._shape.kv_heads, self._shape.head_dim)
        keys, values = basis.restore(sides[0], sides[1], positions, dims, self._shape.dtype)
        pair = torch.stack([side.to(self._shape.dtype) for side in (keys, values)])
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
