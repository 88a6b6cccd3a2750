"""Blocks of a pod that is kept coded: exact in memory, on the disk what a basis and one step size leave of it.

Every component of a token's keys and values (engine.kvcache.basis) is rounded to a multiple of the step, so that those
of little spread become zero by themselves (reverse water-filling), and the integers are stored component by component
under zstd: small ones several to a byte, since its Huffman codes take a bit at least. The first and last tokens stay as
they are.

Letters: L layers, G KV heads, C tokens of a block, D head size, R directions.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import zstandard
from torch import Tensor, nn

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.kvcache.basis import Basis
from engine.kvcache.exact import Pod, PodBlock, PodLoader, leaving
from engine.kvcache.layout import Layout
from engine.models.loader import Model

KIND = "coded"
BLOCK_TOKENS = 1024
LEVEL = 1
"""Of zstd: its Huffman codes alone. What higher ones repeat costs more than it saves, 4 % of the bytes at 6."""
LEAST = 0.2
"""Directions whose spread is this many steps are coded; along the others hardly a token is not rounded to zero."""
_MOST = 2**15 - 1
_THREADS = 8


def to_blocks(pod: Pod, layout: Layout) -> Iterator[PodBlock]:
    """The pod as blocks, first tokens first."""
    far = layout.recipe.distant(pod.num_tokens)
    cuts = sorted({0, *range(far.start, far.stop, BLOCK_TOKENS), far.stop, pod.num_tokens})

    def block(start: int, stop: int) -> PodBlock:
        if start in far:
            return _block(pod, layout, start, stop)
        return leaving([(pod.keys[:, :, start:stop], pod.values[:, :, start:stop])], start)()

    with _pool(pod.keys.device) as pool:
        yield from pool.map(block, cuts, cuts[1:])


def _pool(device: torch.device) -> ThreadPoolExecutor:
    """What blocks are coded in, and decoded: beside a GPU by several threads; a processor is busy with the products."""
    return ThreadPoolExecutor(_THREADS if device.type == "cuda" else 1, "coding")


def _block(pod: Pod, layout: Layout, start: int, stop: int) -> PodBlock:
    basis, step = basis_of(layout), layout.recipe.coding.step
    some = slice(start, stop)
    sides = basis.analyse(pod.keys[:, :, some], pod.values[:, :, some], pod.positions[some], LEAST * step)
    packed = [encode((side / step).round().clamp(-_MOST, _MOST).short().T) for side in sides]
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


def encode(rows: Tensor) -> bytes:
    """Whole numbers (R, C) under zstd: first how each row is packed, then the rows of one packing after the other."""
    reach = rows.abs().amax(1)
    kinds = torch.bucketize(reach, torch.tensor(_REACH, device=rows.device))
    packed = [packing.pack(rows[kinds == kind]).flatten() for kind, packing in enumerate(_PACKINGS)]
    return zstandard.ZstdCompressor(LEVEL).compress(torch.cat([kinds.byte(), *packed]).cpu().numpy().data)


def unfolded(
    data: memoryview, count: int, tokens: int, device: torch.device | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Of each packing which rows of `count` have it, and their bytes. Raises PodMismatch where that is not so."""
    try:
        plain = bytearray(zstandard.ZstdDecompressor().decompress(data, 2 * count * (tokens + 1)))
    except zstandard.ZstdError as error:
        raise PodMismatch(f"a coded block is damaged: {error}") from error
    flat = torch.frombuffer(plain, dtype=torch.uint8) if plain else torch.empty(0, dtype=torch.uint8)
    members = [(flat[:count] == kind).nonzero()[:, 0] for kind in range(len(_PACKINGS))]
    sizes = [len(rows) * packing.width(tokens) for rows, packing in zip(members, _PACKINGS, strict=True)]
    if len(flat) != count + sum(sizes) or sum(map(len, members)) != count:
        raise PodMismatch(f"a coded block holds {len(flat)} bytes, expected {count + sum(sizes)}")
    parts = torch.split(flat[count:].to(device), sizes)
    return [(rows.to(part.device), part) for rows, part in zip(members, parts, strict=True)]


def unpacked(parts: Sequence[tuple[Tensor, Tensor]], tokens: int) -> Tensor:
    """The numbers (R, C) that `unfolded` gave the bytes of."""
    rows = torch.cat([each for each, _ in parts])
    found = torch.empty(len(rows), tokens, dtype=torch.int16, device=rows.device)
    for (members, part), packing in zip(parts, _PACKINGS, strict=True):
        found[members] = packing.unpack(part, tokens)
    return found


class _Packing:
    """So many whole numbers from -reach on to a byte, as digits to a base; or, halved, their high bytes apart from the
    low ones, since nearly all of those are alike."""

    def __init__(self, count: int, base: int, reach: int, halved: bool = False) -> None:
        self._count, self._reach, self._halved = count, reach, halved
        self._weights = (base ** torch.arange(count)).short()
        self._table = (torch.arange(256)[:, None] // self._weights % base - reach).char()

    def width(self, tokens: int) -> int:
        """Bytes of a row of numbers."""
        return (1 + self._halved) * -(-tokens // self._count)

    def pack(self, rows: Tensor) -> Tensor:
        """Rows of numbers (n, C) as rows of bytes."""
        if self._halved:
            rows = torch.cat([rows >> 8, (rows & 255) - 128], 1)
        digits = nn.functional.pad(rows + self._reach, (0, -rows.shape[1] % self._count))
        digits = digits.view(len(rows), digits.shape[1] // self._count, self._count)
        return (digits * self._weights.to(rows.device)).sum(-1, dtype=torch.int16).byte()

    def unpack(self, packed: Tensor, tokens: int) -> Tensor:
        """Rows of so many numbers again, from all their bytes."""
        digits = self._table.to(packed.device).index_select(0, packed.int()).short()
        if self._halved:
            high, low = digits.view(-1, 2, tokens).unbind(1)
            return (high << 8) + low + 128
        return digits.view(-1, self.width(tokens) * self._count)[:, :tokens]


_REACH = (1, 7, 127)
"""How large the numbers of a row may be for each packing but the last."""
_PACKINGS = (_Packing(5, 3, 1), _Packing(2, 16, 7), _Packing(1, 256, 128), _Packing(1, 256, 128, halved=True))


class CodedLoader:
    """Puts the blocks of a coded pod together: an exact one, of rounded numbers. From several threads at once."""

    def __init__(
        self, layout: Layout, shape: KVShape, num_tokens: int, device: torch.device, staging: Any = None
    ) -> None:
        self._layout, self._shape, self._device = layout, shape, device
        self._exact = PodLoader(shape, num_tokens, device, staging)
        self._turn = threading.Lock()
        """A device does one thing after the other anyhow: so there is room for the numbers of one block at a time."""

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
        first, device, shape = 0, self._device, self._shape
        packed = []
        for transform, size in zip(basis.sides, meta["sizes"], strict=True):
            directions = transform.within(LEAST * recipe.coding.step)
            packed.append(unfolded(payload[first : first + size], directions, stop - start, device))
            first += size
        with self._turn:
            sides = [unpacked(each, stop - start).T * recipe.coding.step for each in packed]
            pair = torch.empty(
                2, shape.layers, shape.kv_heads, stop - start, shape.head_dim, dtype=shape.dtype, device=device
            )
            basis.restore(sides, torch.arange(start, stop, device=device), pair)
            self._exact.put(start, [pair])

    def finish(self) -> Pod:
        """The pod, whole. Raises PodMismatch where tokens are missing or came twice."""
        pod = self._exact.finish()
        assert isinstance(pod, Pod)
        return pod


def restored(blocks: Sequence[PodBlock], layout: Layout, model: Model) -> Pod:
    """The pod that comes back of these blocks."""
    loader = CodedLoader(layout, model.shape, blocks[-1].stop, model.device)
    with _pool(model.device) as pool:
        for _ in pool.map(lambda block: loader.add({**block.meta, "stop": block.stop}, block.payload), blocks):
            pass
    return loader.finish()
