"""PackedPod: a compressed pod. Near tokens are exact; far ones may be few, in few bits, with keys that layers share.

It stays packed in memory: a layer is unpacked when it is attended, and forgotten. OpenPod holds what an answer of many
tokens, or a passage, needs unpacked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import PodMismatch
from engine.layout import Layout
from engine.pod import Pod
from engine.precision import Packed, dequantize, hadamard, unpack
from engine.segment import Rows, Segment


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
        return _selected(self, len(self.layers), slots)

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
        return self._segments(layer, {})

    def select(self, slots: Tensor) -> OpenPod:
        """The same memory restricted to some tokens, unpacked; see Pod.select."""
        return _selected(self.open() if self.layout.maps else self, len(self.far), slots)

    def open(self) -> OpenPod:
        """Everything unpacked."""
        known: dict[int, list[Tensor]] = {}
        return OpenPod(tuple(tuple(self._segments(layer, known)) for layer in range(len(self.far))), self.num_tokens)

    def check(self) -> None:
        """Raise PodMismatch where the parts do not belong together."""
        self.near.check()
        heads = self.near.keys.shape[1]
        for layer, far in enumerate(self.far):
            if not len(far.keys) == len(far.values) == heads:
                raise PodMismatch(f"layer {layer} has keys of {len(far.keys)} heads, values of {len(far.values)}")
            for head in range(heads):
                rows, keys = len(self._positions(layer, head)), far.keys[head]
                stores = self.layout.stores_keys(layer, head)
                if len(far.values[head].codes) != rows or (keys is not None) != stores:
                    raise PodMismatch(f"layer {layer}, head {head}: the parts are not those of {self.layout.recipe}")
                if keys is not None and len(keys.codes) != rows:
                    raise PodMismatch(f"layer {layer}, head {head}: {len(keys.codes)} keys for {rows} slots")

    def _segments(self, layer: int, known: dict[int, list[Tensor]]) -> list[Segment]:
        positions = [self._positions(layer, head) for head in range(len(self.far[layer].values))]
        if not any(map(len, positions)):
            return self.near.segments(layer)
        recipe = self.layout.recipe
        roots = self.layout.roots[layer] if recipe.mode == "A" else None
        values = [self._rows(each) for each in self.far[layer].values]
        keys = self._keys(layer, known)
        far = Segment(_together(keys), _together(values), _places(positions), roots, recipe.skip)
        return [*self.near.segments(layer), far]

    def _keys(self, layer: int, known: dict[int, list[Tensor]]) -> list[Tensor]:
        """Far keys (K, D) per KV head: its own, its root's, or predicted; `known` keeps those of other layers."""
        if layer in known:
            return known[layer]
        roots, maps = self.layout.roots[layer], self.layout.maps
        keys = []
        for head, (root, own) in enumerate(zip(roots, self.far[layer].keys, strict=True)):
            if root == layer:
                assert own is not None
                keys.append(self._rows(own))
            elif maps is None:
                shared = self.far[root].keys[head]
                assert shared is not None
                keys.append(self._rows(shared))
            else:
                predicted = maps.predict(layer, head, torch.stack(self._keys(root, known)))
                keys.append(predicted if own is None else predicted + self._rows(own))
        if maps is not None:
            known[layer] = keys
        return keys

    def _rows(self, packed: Packed) -> Tensor:
        """Rows (K, D), unpacked and rotated back."""
        rows = dequantize(packed, self.near.keys.dtype)
        if not self.layout.recipe.rotate or packed.bits == 16:
            return rows
        return (rows.float() @ hadamard(rows.shape[1], rows.device)).to(rows.dtype)

    def _positions(self, layer: int, head: int) -> Tensor:
        """Positions (K,) of a head's far slots."""
        first = min(self.layout.recipe.sinks, self.num_tokens)
        count = self.num_tokens - len(self.near.positions)
        kept = self.far[layer].kept
        if kept is None:
            return torch.arange(first, first + count, device=self.near.positions.device)
        return unpack(kept[head : head + 1], 1)[0, :count].nonzero().squeeze(1) + first


AnyPod = Pod | PackedPod | OpenPod


def _selected(pod: PackedPod | OpenPod, layers: int, slots: Tensor) -> OpenPod:
    stop = int(slots[-1]) + 1 if len(slots) else 0
    wanted = torch.zeros(pod.num_tokens, dtype=torch.bool)
    wanted[slots.cpu()] = True
    wanted = wanted.to(pod.device)
    chosen = ([segment.select(wanted) for segment in pod.segments(layer)] for layer in range(layers))
    return OpenPod(tuple(tuple(each for each in layer if any(map(len, each.keys))) for layer in chosen), stop)


def _together(rows: Sequence[Tensor]) -> Rows:
    """One tensor (G, K, D) where all heads have as many slots."""
    return torch.stack(list(rows)) if len({len(each) for each in rows}) == 1 else rows


def _places(positions: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """One tensor (K,) where all heads kept the same slots."""
    first = positions[0]
    return first if all(torch.equal(first, each) for each in positions[1:]) else positions
