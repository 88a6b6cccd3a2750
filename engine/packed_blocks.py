"""Blocks of a packed pod: runs of layers as plain bytes, from which exactly the same pod comes back.

A block names its recipe, its layers, and how many slots each of their heads kept; shapes and dtypes follow from that.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.errors import PodMismatch
from engine.layout import Layout
from engine.packed_pod import FarLayer, PackedPod
from engine.pod import Block, KVShape, Pod
from engine.precision import Packed, scale_shape

KIND = "packed"
BLOCK_BYTES = 8 << 20
"""About the size of a block; several are loaded at once."""
_ALIGNMENT = 8

_Field = tuple[str, torch.dtype, tuple[int, ...]]


def to_blocks(pod: PackedPod) -> Iterator[Block]:
    """The pod as blocks that all span its tokens, lowest layers first."""
    layers = len(pod.far)
    run = max(1, min(layers, round(layers * BLOCK_BYTES / max(1, pod.nbytes))))
    for first in range(0, layers, run):
        numbers = range(first, min(first + run, layers))
        counts = [[len(each.codes) for each in pod.far[layer].values] for layer in numbers]
        meta = {
            "kind": KIND,
            "recipe": str(pod.layout.recipe),
            "start": 0,
            "layers": [numbers.start, numbers.stop],
            "slots": counts,
            "dtype": str(pod.near.keys.dtype).removeprefix("torch."),
        }
        payload = b"".join(_padded(tensor) for layer in numbers for tensor in _tensors(pod, layer))
        yield Block(0, pod.num_tokens, meta, memoryview(payload))


class PackedLoader:
    """Puts stored blocks of a packed pod together. Blocks may come in any order and from several threads at once."""

    def __init__(self, layout: Layout, shape: KVShape, num_tokens: int, device: torch.device) -> None:
        self._layout = layout
        self._shape = shape
        self._num_tokens = num_tokens
        self._device = device
        self._layers: dict[int, tuple[Tensor, Tensor, FarLayer]] = {}

    def add(self, meta: Mapping[str, Any], payload: memoryview) -> None:
        """Copy a verified block's layers. Raises PodMismatch on a foreign one."""
        recipe, dtype = str(self._layout.recipe), str(self._shape.dtype).removeprefix("torch.")
        if meta.get("kind") != KIND or (meta["recipe"], meta["dtype"]) != (recipe, dtype):
            raise PodMismatch(f"a block of {meta.get('recipe')} does not fit a pod of {recipe} in {dtype}")
        first, stop = meta["layers"]
        if not 0 <= first < stop <= self._shape.layers or len(meta["slots"]) != stop - first:
            raise PodMismatch(f"a block of layers {first} to {stop} does not fit {self._shape.layers} layers")
        offset = 0
        for layer, counts in zip(range(first, stop), meta["slots"], strict=True):
            tensors: dict[str, Tensor] = {}
            for name, kind, dims in self._fields(layer, counts):
                size = math.prod(dims) * kind.itemsize
                if offset + size > len(payload):
                    raise PodMismatch(f"a block of {len(payload)} bytes ends inside layer {layer}")
                read = torch.frombuffer(payload, dtype=kind, count=math.prod(dims), offset=offset) if size else None
                # A copy, since the buffer is used for the next block.
                tensors[name] = torch.empty(dims, dtype=kind) if read is None else read.view(dims).clone()
                offset += size + -size % _ALIGNMENT
            self._layers[layer] = self._layer(layer, tensors)
        if offset != len(payload):
            raise PodMismatch(f"a block of {len(payload)} bytes holds {offset}")

    def finish(self) -> PackedPod:
        """The pod. Raises PodMismatch where layers are missing."""
        missing = set(range(self._shape.layers)) - self._layers.keys()
        if missing:
            raise PodMismatch(f"{len(missing)} layers are missing")
        layers = [self._layers[layer] for layer in range(self._shape.layers)]
        near = torch.tensor(self._layout.near(self._num_tokens), dtype=torch.long, device=self._device)
        keys, values = (torch.stack([each[part] for each in layers]).to(self._device) for part in (0, 1))  # type: ignore[misc]
        far = tuple(each[2] for each in layers)
        return PackedPod(self._layout, Pod(keys, values, near, self._num_tokens), far, self._num_tokens)

    def _fields(self, layer: int, counts: list[int]) -> Iterator[_Field]:
        """Name, dtype and shape of each part of a layer, in the order in which they are stored."""
        heads, dim, exact = self._shape.kv_heads, self._shape.head_dim, self._shape.dtype
        near = len(self._layout.near(self._num_tokens))
        if len(counts) != heads or not all(0 <= count <= self._num_tokens - near for count in counts):
            raise PodMismatch(f"layer {layer} cannot have kept {counts} slots")
        yield "near keys", exact, (heads, near, dim)
        yield "near values", exact, (heads, near, dim)
        if self._layout.recipe.keep < 1:
            yield "kept", torch.uint8, (heads, -(-(self._num_tokens - near) // 8))
        for head, count in enumerate(counts):
            if self._layout.stores_keys(layer, head):
                yield from _packed_fields(
                    f"key {head}", count, dim, self._layout.key_bits(layer, head), "channel", exact
                )
            yield from _packed_fields(f"value {head}", count, dim, self._layout.recipe.value_bits, "token", exact)

    def _layer(self, layer: int, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, FarLayer]:
        device = self._device

        def packed(name: str, bits: int, per: str) -> Packed:
            codes = tensors[name].to(device)
            nothing = torch.empty(0, dtype=torch.float16)
            scales, zeros = (tensors.get(f"{name} {part}", nothing).to(device) for part in ("scales", "zeros"))
            return Packed(bits, per, codes, scales, zeros)

        heads, layout = range(self._shape.kv_heads), self._layout
        keys = tuple(
            packed(f"key {head}", layout.key_bits(layer, head), "channel") if layout.stores_keys(layer, head) else None
            for head in heads
        )
        values = tuple(packed(f"value {head}", layout.recipe.value_bits, "token") for head in heads)
        kept = tensors["kept"].to(device) if "kept" in tensors else None
        return tensors["near keys"], tensors["near values"], FarLayer(keys, values, kept)


def _packed_fields(name: str, count: int, dim: int, bits: int, per: str, exact: torch.dtype) -> Iterator[_Field]:
    if bits == 16:
        yield name, exact, (count, dim)
        return
    yield name, torch.uint8, (count, dim * bits // 8)
    yield f"{name} scales", torch.float16, scale_shape(count, dim, per)
    yield f"{name} zeros", torch.float16, scale_shape(count, dim, per)


def _tensors(pod: PackedPod, layer: int) -> Iterator[Tensor]:
    """The parts of a layer in the order of `PackedLoader._fields`."""
    yield pod.near.keys[layer]
    yield pod.near.values[layer]
    far = pod.far[layer]
    if far.kept is not None:
        yield far.kept
    for keys, values in zip(far.keys, far.values, strict=True):
        for each in (keys, values):
            if each is not None:
                yield each.codes
                if each.bits < 16:
                    yield from (each.scales, each.zeros)


def _padded(tensor: Tensor) -> bytes:
    raw = tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return raw + bytes(-len(raw) % _ALIGNMENT)
