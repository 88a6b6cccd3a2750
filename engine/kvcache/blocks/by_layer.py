"""Blocks of a packed pod: runs of layers, or some heads of one, as plain bytes, from which the same pod comes back.

A block names its recipe, its layers and heads, and how many slots each of those heads kept; shapes and dtypes follow
from that. The tensors of a pod that is loaded look at its blocks as they were read: nothing is copied on the host, and
each block goes to the device in one piece.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.kv_shape import KVShape
from engine.core.pinned_staging import Staging
from engine.core.quant import Packed, scale_shape
from engine.kvcache.exact import Pod, PodBlock
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import DistantLayer, QuantizedPod
from engine.kvcache.summaries import SUMMARIES

KIND = "packed"
BLOCK_BYTES = 8 << 20
"""About the size of a block of several layers; several blocks are loaded at once."""
MOST_BYTES = 24 << 20
"""About the most for one layer, which is otherwise stored by heads: a larger block is long alone under way."""
ALIGNMENT = 64
"""Of every tensor within its block; kernels want 16 at least."""
_SUMMARY = "summary "

_Field = tuple[str, torch.dtype, tuple[int, ...]]
_Place = tuple[torch.dtype, tuple[int, ...], int]
"""Dtype and shape of a tensor, and the byte of its block where it begins."""
_Part = tuple[range, Tensor, Tensor, DistantLayer]
"""Some heads of a layer: proximal keys, proximal values, and what is far."""


def to_blocks(pod: QuantizedPod) -> Iterator[PodBlock]:
    """The pod as blocks that all span its tokens, lowest layers first."""
    layers, heads = len(pod.distant), len(pod.distant[0].values)
    run = max(1, min(layers, round(layers * BLOCK_BYTES / max(1, pod.nbytes))))
    width = math.ceil(heads / max(1, math.ceil(pod.nbytes / layers / MOST_BYTES)))
    for layer in range(0, layers, run):
        numbers = range(layer, min(layer + run, layers))
        for head in range(0, heads, width if run == 1 else heads):
            yield _block(pod, numbers, range(head, min(head + width, heads) if run == 1 else heads))


def _block(pod: QuantizedPod, layers: range, heads: range) -> PodBlock:
    meta = {
        "kind": KIND,
        "recipe": str(pod.layout.recipe),
        "start": 0,
        "layers": [layers.start, layers.stop],
        "heads": [heads.start, heads.stop],
        "slots": [[len(pod.distant[layer].values[head].codes) for head in heads] for layer in layers],
        "dtype": str(pod.proximal.keys.dtype).removeprefix("torch."),
        "alignment": ALIGNMENT,
    }
    payload = b"".join(_padded(tensor) for layer in layers for tensor in _tensors(pod, layer, heads))
    return PodBlock(0, pod.num_tokens, meta, memoryview(payload))


class QuantizedLoader:
    """Puts stored blocks of a packed pod together. Blocks may come in any order and from several threads at once."""

    def __init__(
        self,
        layout: Layout,
        shape: KVShape,
        num_tokens: int,
        device: torch.device,
        staging: Staging | None = None,
    ) -> None:
        self._layout = layout
        self._shape = shape
        self._num_tokens = num_tokens
        self._device = device
        self._staging = staging or Staging(device)
        self._blocks: list[tuple[range, range, list[dict[str, _Place]], Tensor]] = []
        """Layers, heads, places and bytes. What looks at them is made at the end: threads that add blocks would wait
        for each other, at Python's lock."""
        self._parts: dict[tuple[int, int], _Part] = {}
        """By layer and first head."""
        self._proximal = len(layout.proximal(num_tokens))
        summary = layout.recipe.selection.summary if self._proximal < num_tokens else ""
        self._summarises = SUMMARIES[summary] if summary else None
        self._summaries: dict[int, tuple[Tensor, ...]] = {}
        """By layer, stored with its first heads."""

    def room(self, num_bytes: int) -> AbstractContextManager[memoryview]:
        """Where to read a block to. On a CPU the pod keeps it; else it is free again once the block is added."""
        if self._device.type == "cpu":
            return nullcontext(torch.empty(num_bytes, dtype=torch.uint8).numpy().data)
        return self._staging.room(num_bytes)

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Take a verified block, whose payload must not change any more. Raises PodMismatch on a foreign one."""
        layers, heads = self._ranges(meta)
        places = self._places(layers, heads, meta["slots"], len(payload))
        host = torch.frombuffer(payload, dtype=torch.uint8) if payload else torch.empty(0, dtype=torch.uint8)
        for named, counts in zip(places, meta["slots"], strict=True):
            self._check_kept(counts, _view(host, *named["kept"][1:]) if "kept" in named else None)
        self._blocks.append((layers, heads, places, self._staging.send(host)))

    def finish(self) -> QuantizedPod:
        """The pod, whole for whatever the current stream does next. Raises PodMismatch where layers are missing."""
        for block in self._blocks:
            self._take(*block)
        missing = {layer for layer in range(self._shape.layers) if not self._complete(layer)}
        if missing:
            raise PodMismatch(f"{len(missing)} layers are missing")
        self._staging.join()
        layers = [self._whole(layer) for layer in range(self._shape.layers)]
        proximal = torch.tensor(self._layout.proximal(self._num_tokens), dtype=torch.long, device=self._device)
        keys, values = torch.stack([each[0] for each in layers]), torch.stack([each[1] for each in layers])
        distant = tuple(each[2] for each in layers)
        near = Pod(keys, values, proximal, self._num_tokens)
        summary = tuple(map(self._summaries.__getitem__, range(len(layers)))) if self._summarises else ()
        return QuantizedPod(self._layout, near, distant, self._num_tokens, summary=summary)

    def _take(self, layers: range, heads: range, places: list[dict[str, _Place]], there: Tensor) -> None:
        dtypes = {dtype for named in places for dtype, _, _ in named.values()}
        typed = {dtype: there.view(dtype) for dtype in dtypes}
        for layer, named in zip(layers, places, strict=True):
            tensors = {name: _view(typed[dtype], dims, start) for name, (dtype, dims, start) in named.items()}
            self._summaries.setdefault(layer, ())
            self._summaries[layer] += tuple(tensors[name] for name in sorted(tensors) if name.startswith(_SUMMARY))
            distant = self._distant(layer, heads, tensors)
            self._parts[layer, heads.start] = heads, tensors["near keys"], tensors["near values"], distant

    def _ranges(self, meta: Mapping[str, Any]) -> tuple[range, range]:
        """Layers and heads of a block that belongs to such a pod."""
        recipe, dtype = str(self._layout.recipe), str(self._shape.dtype).removeprefix("torch.")
        wanted = {"kind": KIND, "recipe": recipe, "dtype": dtype, "alignment": ALIGNMENT}
        if any(meta.get(name) != value for name, value in wanted.items()):
            raise PodMismatch(f"a block of {meta.get('recipe')} does not fit a pod of {recipe} in {dtype}")
        first, stop = meta["layers"]
        if not 0 <= first < stop <= self._shape.layers or len(meta["slots"]) != stop - first:
            raise PodMismatch(f"a block of layers {first} to {stop} does not fit {self._shape.layers} layers")
        low, high = meta["heads"]
        if not 0 <= low < high <= self._shape.kv_heads:
            raise PodMismatch(f"a block of heads {low} to {high} does not fit {self._shape.kv_heads} heads")
        return range(first, stop), range(low, high)

    def _places(self, layers: range, heads: range, slots: list[list[int]], num_bytes: int) -> list[dict[str, _Place]]:
        """By layer and name where each tensor of a block of so many bytes stands."""
        places: list[dict[str, _Place]] = []
        offset = 0
        for layer, counts in zip(layers, slots, strict=True):
            places.append({})
            for name, dtype, dims in self._fields(layer, heads, counts):
                places[-1][name] = dtype, dims, offset
                size = math.prod(dims) * dtype.itemsize
                if offset + size > num_bytes:
                    raise PodMismatch(f"a block of {num_bytes} bytes ends inside layer {layer}")
                offset += size + -size % ALIGNMENT
        if offset != num_bytes:
            raise PodMismatch(f"a block of {num_bytes} bytes holds {offset}")
        return places

    def _fields(self, layer: int, heads: range, counts: list[int]) -> Iterator[_Field]:
        """Name, dtype and shape of each part of a layer's heads, in the order in which they are stored."""
        dim, exact, proximal = self._shape.head_dim, self._shape.dtype, self._proximal
        if len(counts) != len(heads) or not all(0 <= count <= self._num_tokens - proximal for count in counts):
            raise PodMismatch(f"layer {layer} cannot have kept {counts} slots")
        yield "near keys", exact, (len(heads), proximal, dim)
        yield "near values", exact, (len(heads), proximal, dim)
        if self._layout.recipe.selection.drops:
            yield "kept", torch.uint8, (len(heads), -(-(self._num_tokens - proximal) // 8))
        for head, count in zip(heads, counts, strict=True):
            if self._layout.stores_keys(layer, head):
                yield from _packed_fields(
                    f"key {head}", count, dim, self._layout.key_bits(layer, head), "channel", exact
                )
            yield from _packed_fields(f"value {head}", count, dim, self._layout.recipe.precision.values, "token", exact)
        if self._summarises and heads.start == 0:
            fields = self._summarises.fields(self._shape, self._layout.recipe.selection, self._num_tokens - proximal)
            yield from ((f"{_SUMMARY}{number:02d}", *field) for number, field in enumerate(fields))

    def _check_kept(self, counts: list[int], kept: Tensor | None) -> None:
        """Raise PodMismatch where heads do not have as many rows as slots; `kept` (heads, F / 8) is on the host."""
        distant = self._num_tokens - self._proximal
        if kept is None:
            slots = [distant] * len(counts)
        else:
            rows = [int.from_bytes(row.numpy().tobytes(), "little") for row in kept]
            slots = [(row & (1 << distant) - 1).bit_count() for row in rows]
        if slots != counts:
            raise PodMismatch(f"heads have {counts} rows for {slots} slots")

    def _distant(self, layer: int, heads: range, tensors: Mapping[str, Tensor]) -> DistantLayer:
        nothing = torch.empty(0, dtype=torch.float16, device=self._device)

        def packed(name: str, bits: int, per: str) -> Packed:
            scales, zeros = (tensors.get(f"{name} {part}", nothing) for part in ("scales", "zeros"))
            return Packed(bits, per, tensors[name], scales, zeros)

        layout = self._layout
        keys = tuple(
            packed(f"key {head}", layout.key_bits(layer, head), "channel") if layout.stores_keys(layer, head) else None
            for head in heads
        )
        values = tuple(packed(f"value {head}", layout.recipe.precision.values, "token") for head in heads)
        return DistantLayer(keys, values, tensors.get("kept"))

    def _complete(self, layer: int) -> bool:
        """Whether every head of a layer came once."""
        heads = sorted((part[0] for (number, _), part in self._parts.items() if number == layer), key=min)
        return [head for each in heads for head in each] == list(range(self._shape.kv_heads))

    def _whole(self, layer: int) -> tuple[Tensor, Tensor, DistantLayer]:
        """A layer's proximal keys and values (G, near, D), and what is far, of all heads."""
        parts = [part for (number, _), part in sorted(self._parts.items()) if number == layer]
        if len(parts) == 1:
            return parts[0][1:]
        keys, values = torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts])
        kept = [part[3].kept for part in parts if part[3].kept is not None]
        distant = DistantLayer(
            tuple(each for part in parts for each in part[3].keys),
            tuple(each for part in parts for each in part[3].values),
            torch.cat(kept) if kept else None,
        )
        return keys, values, distant


def _view(typed: Tensor, dims: tuple[int, ...], start: int) -> Tensor:
    """A tensor that looks at what begins `start` bytes into one of its own dtype: a pod has more than a thousand."""
    strides = [math.prod(dims[axis + 1 :]) for axis in range(len(dims))]
    return typed.as_strided(dims, strides, typed.storage_offset() + start // typed.itemsize)


def _packed_fields(name: str, count: int, dim: int, bits: int, per: str, exact: torch.dtype) -> Iterator[_Field]:
    if bits == 16:
        yield name, exact, (count, dim)
        return
    yield name, torch.uint8, (count, dim * bits // 8)
    yield f"{name} scales", torch.float16, scale_shape(count, dim, per)
    yield f"{name} zeros", torch.float16, scale_shape(count, dim, per)


def _tensors(pod: QuantizedPod, layer: int, heads: range) -> Iterator[Tensor]:
    """The parts of a layer's heads in the order of `QuantizedLoader._fields`."""
    some = slice(heads.start, heads.stop)
    yield pod.proximal.keys[layer, some]
    yield pod.proximal.values[layer, some]
    distant = pod.distant[layer]
    if distant.kept is not None:
        yield distant.kept[some]
    for keys, values in zip(distant.keys[some], distant.values[some], strict=True):
        for each in (keys, values):
            if each is not None:
                yield each.codes
                if each.bits < 16:
                    yield from (each.scales, each.zeros)
    if pod.summary and heads.start == 0:
        yield from pod.summary[layer]


def _padded(tensor: Tensor) -> bytes:
    raw = tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return raw + bytes(-len(raw) % ALIGNMENT)
