"""PackedPod: a compressed pod. Near tokens are exact; far ones may be few, in few bits, with keys that layers share.

It stays packed in memory: a layer is unpacked when it is attended, and forgotten. OpenPod holds what an answer of many
tokens, or a passage, needs unpacked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.core.errors import PodMismatch
from engine.core.quant import Packed, dequantize, hadamard, rotated, unpack
from engine.kvcache.exact import Pod
from engine.kvcache.key_maps import KeyMaps, value_layers
from engine.kvcache.layout import Layout
from engine.kvcache.segment import Rows, Segment


@dataclass(frozen=True)
class FarLayer:
    """Far keys and values of one layer, per KV head; keys are None where the layout stores none.

    `kept` has one bit per far token (G, F / 8 rounded up), set for those that stayed; None where all did. The rows of
    keys and values are the kept tokens, ascending.
    """

    keys: tuple[Packed | None, ...]
    values: tuple[Packed, ...]
    kept: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of all parts, scales and bitmap included."""
        rows = sum(each.nbytes for each in (*self.keys, *self.values) if each is not None)
        return rows + (0 if self.kept is None else self.kept.nbytes)


@dataclass(frozen=True)
class OpenPod:
    """A pod as segments ready to be attended, layer by layer."""

    layers: tuple[tuple[Segment, ...], ...]
    num_tokens: int

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values; those that layers share count where they are used."""
        rows = (rows for layer in self.layers for each in layer for rows in (*each.keys, *each.values))
        return sum(each.nbytes for each in rows)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.layers[0][0].places(0).device

    def segments(self, layer: int) -> list[Segment]:
        """What a layer meets here."""
        return list(self.layers[layer])

    def select(self, slots: Tensor) -> "OpenPod":
        """The same memory restricted to some tokens; see Pod.select."""
        wanted = _wanted(self, slots)
        layers = ([segment.select(wanted) for segment in layer] for layer in self.layers)
        kept = (tuple(each for each in layer if any(map(len, each.keys))) for layer in layers)
        return OpenPod(tuple(kept), _stop(slots))

    def open(self) -> "OpenPod":
        """Itself."""
        return self


@dataclass(frozen=True)
class PackedPod:
    """`near` holds the exact tokens; `far` one FarLayer a layer, about the tokens between sinks and recent ones."""

    layout: Layout
    near: Pod
    far: tuple[FarLayer, ...]
    num_tokens: int

    @property
    def nbytes(self) -> int:
        """Bytes of everything a load must bring back."""
        return self.near.nbytes + sum(layer.nbytes for layer in self.far)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.near.positions.device

    def segments(self, layer: int) -> list[Segment]:
        """What a layer meets here: near tokens, then far ones, unpacked."""
        return self._segments(layer)

    def select(self, slots: Tensor) -> Pod | OpenPod:
        """The same memory restricted to some tokens, unpacked; see Pod.select."""
        wanted = _wanted(self, slots)
        if self.layout.maps is not None:
            return self._whole(self.layout.maps, wanted)
        layers = (self._segments(layer, wanted) for layer in range(len(self.far)))
        return OpenPod(tuple(map(tuple, layers)), _stop(slots))

    def open(self) -> Pod | OpenPod:
        """Everything unpacked; where keys are predicted, as a pod that keeps all of them."""
        if self.layout.maps is not None:
            return self._whole(self.layout.maps, None)
        return OpenPod(tuple(tuple(self._segments(layer)) for layer in range(len(self.far))), self.num_tokens)

    def check(self) -> None:
        """Raise PodMismatch where the parts do not belong together."""
        self.near.check()
        heads = self.near.keys.shape[1]
        for layer, far in enumerate(self.far):
            if not len(far.keys) == len(far.values) == heads:
                raise PodMismatch(f"layer {layer} has keys of {len(far.keys)} heads, values of {len(far.values)}")
            for head in range(heads):
                rows, keys = len(self.far_positions(layer, head)), far.keys[head]
                stores = self.layout.stores_keys(layer, head)
                if len(far.values[head].codes) != rows or (keys is not None) != stores:
                    raise PodMismatch(f"layer {layer}, head {head}: the parts are not those of {self.layout.recipe}")
                if keys is not None and len(keys.codes) != rows:
                    raise PodMismatch(f"layer {layer}, head {head}: {len(keys.codes)} keys for {rows} slots")

    def _segments(self, layer: int, wanted: Tensor | None = None) -> list[Segment]:
        """Segments of a layer, restricted to the tokens where `wanted` (T,) is true."""
        heads = range(len(self.far[layer].values))
        positions = [self.far_positions(layer, head) for head in heads]
        near = self.near.segments(layer)
        chosen: list[Tensor | None] = [None] * len(heads)
        if wanted is not None:
            near = [each.select(wanted) for each in near]
            near = [each for each in near if len(each.places(0))]
            chosen = [wanted[each].nonzero().squeeze(1) for each in positions]
            positions = [each[rows] for each, rows in zip(positions, chosen, strict=True)]
        if not any(map(len, positions)):
            return near
        recipe = self.layout.recipe
        roots = self.layout.roots[layer] if recipe.mode == "A" else None
        if self.layout.maps is not None:
            known = Unpacked(self)
            guess = known.keys(layer, self.layout.maps, positions[0])
            return [*near, Segment(guess, known.values(layer), positions[0])]
        dtype = self.near.keys.dtype
        rows = [dequantize(self.far[layer].values[head], dtype, chosen[head]) for head in heads]
        keys = self._keys(layer, chosen)
        return [*near, Segment(keys, _together(rows), _places(positions), roots, recipe.skip, self.turn)]

    def _keys(self, layer: int, chosen: Sequence[Tensor | None]) -> Rows:
        """Far keys (K, D) per KV head, rotated as they are kept: its own, or its root's."""
        packed = [self.far[root].keys[head] for head, root in enumerate(self.layout.roots[layer])]
        dtype = self.near.keys.dtype
        return _together([dequantize(own, dtype, rows) for own, rows in zip(packed, chosen, strict=True) if own])

    def _whole(self, maps: KeyMaps, wanted: Tensor | None) -> Pod:
        """A pod that keeps all keys, of all tokens or those where `wanted` (T,) is true."""
        near, positions = self.near, self.far_positions(0, 0)
        rows = None if wanted is None else wanted[positions].nonzero().squeeze(1)
        if wanted is not None:
            near = near.select(wanted[near.positions].nonzero().squeeze(1))
            positions = positions[rows]
        known, layers = Unpacked(self, rows), range(len(self.far))
        keys = torch.cat([near.keys, torch.stack([known.keys(layer, maps, positions) for layer in layers])], 2)
        values = torch.cat([near.values, torch.stack([known.values(layer) for layer in layers])], 2)
        everywhere, order = torch.cat([near.positions, positions]).sort()
        stop = int(everywhere[-1]) + 1 if len(everywhere) else 0
        return Pod(keys.index_select(2, order), values.index_select(2, order), everywhere, stop)

    @property
    def turn(self) -> Tensor | None:
        """The matrix that far keys and values are rotated by, if they are."""
        recipe = self.layout.recipe
        if not recipe.rotate:
            return None
        return hadamard(self.near.keys.shape[-1], self.device)

    def far_positions(self, layer: int, head: int) -> Tensor:
        """Positions (K,) of a head's far slots."""
        first = min(self.layout.recipe.sinks, self.num_tokens)
        count = self.num_tokens - len(self.near.positions)
        kept = self.far[layer].kept
        if kept is None:
            return torch.arange(first, first + count, device=self.near.positions.device)
        return unpack(kept[head : head + 1], 1)[0, :count].nonzero().squeeze(1) + first


AnyPod = Pod | PackedPod | OpenPod


class Unpacked:
    """Far rows of a pod with key maps, in the space of the model; all of them, or the given ones (K,).

    It remembers what it has unpacked: several layers are predicted from the same ones.
    """

    def __init__(self, pod: PackedPod, rows: Tensor | None = None) -> None:
        self._pod = pod
        self._rows = rows
        self._known: dict[tuple[str, int], Tensor] = {}

    def keys(self, layer: int, maps: KeyMaps, positions: Tensor) -> Tensor:
        """Keys (G, K, D): stored, or predicted, or predicted and what that missed."""
        root = maps.roots[layer]
        stored = self._unpacked("keys", layer) if self._pod.layout.stores_keys(layer, 0) else None
        if stored is not None and root == layer:
            return stored
        values = [self.values(below) for below in value_layers(layer)]
        keys = maps.predict(layer, self._unpacked("keys", root), values, positions)
        return keys if stored is None else keys + stored

    def values(self, layer: int) -> Tensor:
        """Values (G, K, D)."""
        return self._unpacked("values", layer)

    def _unpacked(self, name: str, layer: int) -> Tensor:
        if (name, layer) not in self._known:
            packed = self._pod.far[layer].keys if name == "keys" else self._pod.far[layer].values
            dtype, turn = self._pod.near.keys.dtype, self._pod.turn
            rows = torch.stack([dequantize(each, dtype, self._rows) for each in packed if each])
            self._known[name, layer] = rows if turn is None else rotated(rows, turn)
        return self._known[name, layer]


def _wanted(pod: "PackedPod | OpenPod", slots: Tensor) -> Tensor:
    """Which of the pod's tokens are among the slots: (T,) of bool."""
    wanted = torch.zeros(pod.num_tokens, dtype=torch.bool)
    wanted[slots.cpu()] = True
    return wanted.to(pod.device)


def _stop(slots: Tensor) -> int:
    return int(slots[-1]) + 1 if len(slots) else 0


def _together(rows: Sequence[Tensor]) -> Rows:
    """One tensor (G, K, D) where all heads have as many slots."""
    return torch.stack(list(rows)) if len({len(each) for each in rows}) == 1 else rows


def _places(positions: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """One tensor (K,) where all heads kept the same slots."""
    first = positions[0]
    return first if all(torch.equal(first, each) for each in positions[1:]) else positions
