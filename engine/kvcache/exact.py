"""Pod: the frozen key/value memory of one section, and the blocks it is stored in.

A pod never changes once it is built. It knows the position that each kept slot had in its section, so evidence can be
shown on the page and rotary positions stay right when slots are selected.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.core.pinned_staging import Staging, to_host
from engine.kvcache.segment import Segment, Window

MOST_BYTES = 32 << 20
"""Of a stored block. How many tokens are read at once says nothing of how many are best loaded at once."""


@dataclass(frozen=True)
class PodBlock:
    """Tokens start..stop of a pod as plain bytes: `meta` names dtype and shape, `payload` holds keys, then values.

    `states`: a block of those behind them, of a model that has such; see engine.kvcache.blocks.states.
    """

    start: int
    stop: int
    meta: Mapping[str, Any]
    payload: memoryview
    states: "PodBlock | None" = None


@dataclass(frozen=True)
class Pod:
    """Keys and values (L, G, K, D), the position of each kept slot (K,), the number of tokens that were read, and the
    states behind them, as KVShape has them.

    Of layers with a window, the slots are the last tokens. See engine.kvcache.quantized.AnyPod for what pods do.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    num_tokens: int
    window: int | None = None
    states: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + sum(each.nbytes for each in self.states)

    @property
    def device(self) -> torch.device:
        return self.positions.device

    @property
    def groups(self) -> "tuple[Pod, ...]":
        """Itself; see GroupedPod."""
        return (self,)

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        # PyTorch's flash attention ends the process over a segment without slots.
        slots = len(self.positions)
        window = None if self.window is None else Window(self.window, self.num_tokens - slots)
        return [Segment(self.keys[layer], self.values[layer], self.positions, window=window)] if slots else []

    def select(self, slots: Tensor) -> "Pod":
        """The same memory restricted to some slots (ascending, (K',)), ending right behind the last of them.

        Positions stay as they were, so what follows stands behind the last slot as if the section ended there. Raises
        PodMismatch for layers with a window, which hold none of the tokens before it, and for those with a state.
        """
        if self.window is not None:
            raise PodMismatch("a layer with a window holds the end of a section only: no part of it can be chosen")
        refuse_part(self.states)
        slots = slots.to(self.positions.device)
        positions = self.positions.index_select(0, slots)
        stop = int(positions[-1]) + 1 if len(slots) else 0
        return Pod(self.keys.index_select(2, slots), self.values.index_select(2, slots), positions, stop)

    def open(self) -> "Pod":
        return self


@dataclass(frozen=True)
class GroupedPod:
    """The exact pod of a model whose layers differ: one Pod for every group of like layers, as KVShape has them."""

    groups: tuple[Pod, ...]
    places: tuple[tuple[int, int], ...]
    """Of every layer its group, and where it stands in there."""
    num_tokens: int
    states: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.groups) + sum(each.nbytes for each in self.states)

    @property
    def device(self) -> torch.device:
        return self.groups[0].device

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        group, place = self.places[layer]
        return self.groups[group].segments(place, query)

    def select(self, slots: Tensor) -> "GroupedPod":
        refuse_part(self.states)
        groups = tuple(each.select(slots) for each in self.groups)
        return GroupedPod(groups, self.places, groups[0].num_tokens)

    def open(self) -> "GroupedPod":
        return self


ExactPod = Pod | GroupedPod


def refuse_part(states: Sequence[Tensor]) -> None:
    """Raise PodMismatch where a part of a section is wanted of a pod with states."""
    if states:
        raise PodMismatch("a state is of all tokens of a section: no part of it can be chosen")


def grouped(shape: KVShape, rows: Sequence[tuple[Tensor, Tensor]], num_tokens: int) -> ExactPod:
    """The pod of each group's keys and values (L, G, K, D), of which those that a window hides are let go."""
    pods = []
    for (keys, values), (layer, *_) in zip(rows, shape.groups, strict=True):
        held, had = shape.per_layer[layer].held(num_tokens), keys.shape[2]
        if held < had:
            # Copies, so that nothing holds the rest.
            keys, values = keys[:, :, had - held :].clone(), values[:, :, had - held :].clone()
        positions = torch.arange(num_tokens - held, num_tokens, device=keys.device)
        pods.append(Pod(keys, values, positions, num_tokens, shape.per_layer[layer].window))
    if len(shape.groups[0]) == shape.layers:
        return pods[0]
    return GroupedPod(tuple(pods), shape.places, num_tokens)


def leaving(rows: Sequence[tuple[Tensor, Tensor]], start: int, room: int = 0) -> Callable[[], PodBlock]:
    """Keys and values (L, G, C, D) of tokens start..start+C, of each group of layers, on their way to plain bytes in
    host memory, to `room` bytes at least; the call that waits for them.

    A group may hold fewer than others: the last of the tokens.
    """
    pairs = [torch.stack(each) for each in rows]
    shapes = [list(pair.shape) for pair in pairs]
    # A single group is written as it always was.
    shape = shapes[0] if len(shapes) == 1 else shapes
    meta = {"dtype": str(pairs[0].dtype).removeprefix("torch."), "shape": shape, "start": start}
    flat = pairs[0] if len(pairs) == 1 else torch.cat([pair.flatten() for pair in pairs])
    arrived, stop = to_host(flat, room), start + max(each[3] for each in shapes)
    return lambda: PodBlock(start, stop, meta, arrived().view(torch.uint8).numpy().data.cast("B"))


def to_blocks(pod: ExactPod) -> Iterator[PodBlock]:
    """A whole pod as blocks, in which layers with a window have the end of the section alone."""
    starts = [pod.num_tokens - len(each.positions) for each in pod.groups]
    tokens = pod.num_tokens - min(starts)
    step = max(1, MOST_BYTES * tokens // max(1, pod.nbytes))
    for first in range(min(starts), pod.num_tokens, step):
        some = [slice(max(0, first - start), max(0, first + step - start)) for start in starts]
        rows = [(each.keys[:, :, part], each.values[:, :, part]) for each, part in zip(pod.groups, some, strict=True)]
        yield leaving(rows, first)()


def pieces(block: PodBlock) -> Iterator[PodBlock]:
    """The block itself, or if it is large several blocks of consecutive tokens, to be loaded at the same time.

    A chunk that was packed while it was read stays whole: from the middle of it reading could not go on to the same
    bytes.
    """
    tokens = block.stop - block.start
    if len(block.payload) <= MOST_BYTES or "shape" not in block.meta:
        yield block
        return
    pairs = _pairs(_shapes(block.meta), torch.frombuffer(block.payload, dtype=getattr(torch, block.meta["dtype"])))
    step = max(1, MOST_BYTES * tokens // len(block.payload))
    for first in range(0, tokens, step):
        some = slice(first, first + step)
        yield leaving([(pair[0][:, :, some], pair[1][:, :, some]) for pair in pairs], block.start + first)()


def from_block(meta: Mapping[str, Any], payload: memoryview, shape: KVShape) -> tuple[int, int, list[Tensor]]:
    """The start, the stop and each group's stacked keys and values (2, L, G, C, D) of stored bytes, which are of the
    last C tokens.

    Raises PodMismatch on foreign ones.
    """
    found = _shapes(meta)
    counts = [each[3] if len(each) == 5 else -1 for each in found]
    alike = [(len(layers), shape.per_layer[layers[0]]) for layers in shape.groups]
    expected = [
        (2, layers, each.kv_heads, count, each.head_dim) for (layers, each), count in zip(alike, counts, strict=False)
    ]
    fits = len(found) == len(alike) and found == expected
    if not fits or getattr(torch, str(meta["dtype"]), None) != shape.dtype:
        raise PodMismatch(f"a block of {meta['dtype']} {found} does not fit this model ({shape.dtype} {expected})")
    if sum(map(math.prod, found)) * shape.dtype.itemsize != len(payload):
        raise PodMismatch(f"a block of {len(payload)} bytes cannot hold {found}")
    start = int(meta["start"])
    return start, start + max(counts), _pairs(found, torch.frombuffer(payload, dtype=shape.dtype))


def _shapes(meta: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """What a block holds of each group of layers."""
    dims = meta["shape"]
    return [tuple(each) for each in (dims if dims and isinstance(dims[0], list) else [dims])]


def _pairs(shapes: Sequence[tuple[int, ...]], flat: Tensor) -> list[Tensor]:
    parts = torch.split(flat, [math.prod(each) for each in shapes])
    return [part.view(each) for part, each in zip(parts, shapes, strict=True)]


def check_whole(ranges: Sequence[tuple[int, int]], first: int, stop: int) -> None:
    """Raise PodMismatch unless ranges of tokens, in any order, are those from `first` up to `stop`, each once."""
    at = first
    for start, end in sorted(ranges):
        if start != at:
            raise PodMismatch(f"a block starts at token {start}, expected {at}")
        at = end
    if at != stop:
        raise PodMismatch(f"blocks hold {at} tokens, expected {stop}")


class PodLoader:
    """Puts stored blocks together into a pod. Blocks may come in any order and from several threads at once."""

    def __init__(self, shape: KVShape, num_tokens: int, device: torch.device, staging: Staging | None = None) -> None:
        self._shape = shape
        self._num_tokens = num_tokens
        self._staging = staging or Staging(device)
        self._held = [shape.per_layer[layers[0]].held(num_tokens) for layers in shape.groups]
        rooms = [(held, device, group) for group, held in enumerate(self._held)]
        self._rows = [(shape.empty(*room), shape.empty(*room)) for room in rooms]
        self._ranges: list[tuple[int, int, list[int]]] = []
        """Of each block: its tokens, and how many slots of each group it filled."""

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to, until it is added."""
        return self._staging.room(num_bytes)

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Copy a verified block to its place. Raises PodMismatch on a foreign one, of which nothing is copied."""
        start, _, pairs = from_block(meta, payload, self._shape)
        self.put(start, pairs)

    def put(self, start: int, pairs: Sequence[Tensor]) -> None:
        """Copy each group's keys and values (2, L, G, C, D) of tokens from `start` to their places. On the device they
        may be dropped at once: their memory is not taken again before they were copied."""
        stop = start + max(pair.shape[3] for pair in pairs)
        if stop > self._num_tokens:
            raise PodMismatch(f"a block ends at token {stop} of {self._num_tokens}")
        filled = []
        there_already = [each for each in pairs if each.is_cuda]
        with self._staging.sending(*there_already, *(each for rows in self._rows for each in rows)):
            for rows, pair, held in zip(self._rows, pairs, self._held, strict=True):
                # Counted from the first token that is held.
                end = stop - self._num_tokens + held
                begin = end - pair.shape[3]
                # In one piece to the device, where it is far quicker to put it to its places.
                there = pair[..., max(0, -begin) :, :].to(rows[0].device, non_blocking=True)
                for room, new in zip(rows, there, strict=True):
                    room[:, :, max(0, begin) : max(0, end)] = new
                filled.append(there.shape[3])
        self._ranges.append((start, stop, filled))

    def finish(self) -> ExactPod:
        """The pod, whole for whatever the current stream does next. Raises PodMismatch where tokens are missing or
        came twice; of those that no layer sees any more, all or some may be there."""
        needed = self._num_tokens - max(self._held)
        stop = min([needed, *(start for start, _, _ in self._ranges)])
        check_whole([(start, end) for start, end, _ in self._ranges], stop, self._num_tokens)
        if any(sum(each[2][group] for each in self._ranges) < held for group, held in enumerate(self._held)):
            raise PodMismatch("blocks hold less than the windows of some layers")
        self._staging.join()
        return grouped(self._shape, self._rows, self._num_tokens)
