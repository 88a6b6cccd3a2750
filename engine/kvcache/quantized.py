"""QuantizedPod: a compressed pod. Proximal tokens are exact; distant ones may be few, in few bits, with keys that
layers share.

It stays packed in memory: a layer is unpacked when it is attended, and forgotten. OpenPod holds what an answer of many
tokens, or a passage, needs unpacked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from engine.core.quant import Packed, dequantize, quantize, rotated, unpack
from engine.kernels.card import why_not_triton
from engine.kvcache.exact import Pod, refuse_part
from engine.kvcache.key_maps import KeyMaps, value_layers
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import Sharing
from engine.kvcache.segment import Rows, Segment
from engine.kvcache.summaries import SUMMARIES


@dataclass(frozen=True)
class DistantLayer:
    """Distant keys and values of one layer, per KV head; keys are None where the layout stores none.

    `kept` has one bit per distant token (G, F / 8 rounded up), set for those that stayed; None where all did. The rows
    of keys and values are the kept tokens, ascending.
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
    """A pod as rows ready to be attended: exact tokens, and N distant slots of all layers and KV heads one behind the
    other, of which `counts[layer][kv_head]` are of each.

    Keys and values are (N, D), positions (N,). `roots` and `rotation` are those of Segment.
    """

    proximal: Pod
    keys: Tensor
    values: Tensor
    positions: Tensor
    counts: tuple[tuple[int, ...], ...]
    alike: bool
    """Whether all KV heads hold the same tokens."""
    roots: tuple[tuple[int, ...], ...] | None
    rotation: Tensor | None
    num_tokens: int
    states: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and states; those that layers share count where they are used."""
        return self.proximal.nbytes + sum(each.nbytes for each in (self.keys, self.values, *self.states))

    @property
    def device(self) -> torch.device:
        return self.positions.device

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        counts, first = self.counts[layer], sum(map(sum, self.counts[:layer]))
        if not sum(counts):
            return self.proximal.segments(layer)
        own = slice(first, first + sum(counts))
        keys, values, positions = self.keys[own], self.values[own], torch.split(self.positions[own], list(counts))
        facts = None if self.roots is None else self.roots[layer], self.rotation
        if self.alike:
            heads = len(counts), counts[0], -1
            segment = Segment(keys.view(heads), values.view(heads), positions[0], *facts)
        else:
            segment = Segment(torch.split(keys, list(counts)), torch.split(values, list(counts)), positions, *facts)
        return [*self.proximal.segments(layer), segment]

    def select(self, slots: Tensor) -> "OpenPod":
        refuse_part(self.states)
        wanted = _wanted(self, slots)
        proximal = self.proximal.select(wanted[self.proximal.positions].nonzero().squeeze(1))
        chosen = wanted[self.positions]
        sizes = [size for layer in self.counts for size in layer]
        left = [int(each.sum()) for each in torch.split(chosen, sizes)]
        keys, values, positions = self.keys[chosen], self.values[chosen], self.positions[chosen]
        counts, num_tokens = _by_layer(left, len(self.counts)), _stop(slots)
        return replace(
            self, proximal=proximal, keys=keys, values=values, positions=positions, counts=counts, num_tokens=num_tokens
        )

    def open(self) -> "OpenPod":
        return self


@dataclass(frozen=True)
class QuantizedPod:
    """`proximal` holds the exact tokens; `distant` one DistantLayer a layer, about the tokens between sinks and recent
    ones. `states` are exact. `summary` holds the tensors of each layer that stand for tokens that did not stay, if any.
    """

    layout: Layout
    proximal: Pod
    distant: tuple[DistantLayer, ...]
    num_tokens: int
    states: tuple[Tensor, ...] = ()
    summary: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def nbytes(self) -> int:
        distant = sum(layer.nbytes for layer in self.distant)
        others = sum(each.nbytes for tensors in (self.states, *self.summary) for each in tensors)
        return self.proximal.nbytes + distant + others

    @property
    def device(self) -> torch.device:
        return self.proximal.positions.device

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        if not self.summary:
            return self._of_slots(layer)
        made = SUMMARIES[self.layout.recipe.selection.summary]
        return [*self._of_slots(layer), made.segment(layer, self.summary[layer], self.layout.learned.tensors)]

    def _of_slots(self, layer: int) -> list[Segment]:
        heads = range(len(self.distant[layer].values))
        positions = [self.distant_positions(layer, head) for head in heads]
        proximal = self.proximal.segments(layer)
        if not any(map(len, positions)):
            return proximal
        sharing = self.layout.recipe.sharing
        roots = sharing.asking(self.layout.roots[layer])
        if self.layout.maps is not None:
            known = Unpacked(self)
            guess = known.keys(layer, self.layout.maps, positions[0])
            return [*proximal, Segment(guess, known.values(layer), positions[0])]
        dtype = self.proximal.keys.dtype
        values = _together([dequantize(each, dtype) for each in self.distant[layer].values])
        keys = _together([dequantize(each, dtype) for each in self._keys(layer)])
        return [*proximal, Segment(keys, values, _places(positions), roots, self.rotation)]

    def select(self, slots: Tensor) -> "Pod | OpenPod | QuantizedPod":
        """With a summary, itself: that is of all tokens, and what it says of some cannot be told from the rest."""
        refuse_part(self.states)
        return self if self.summary else self._opened(_wanted(self, slots), _stop(slots))

    def open(self) -> "Pod | OpenPod | QuantizedPod":
        """Everything unpacked; where keys are predicted, as a pod that keeps all of them. With a summary, itself."""
        return self if self.summary else self._opened(None, self.num_tokens)

    def _opened(self, wanted: Tensor | None, num_tokens: int) -> Pod | OpenPod:
        """All tokens, or those where `wanted` (T,) is true, as if the section had `num_tokens`."""
        if self.layout.maps is not None:
            return self._whole(self.layout.maps, wanted)
        proximal, sharing = self.proximal, self.layout.recipe.sharing
        if wanted is not None:
            proximal = proximal.select(wanted[proximal.positions].nonzero().squeeze(1))
        counts, rows, places, positions = self._chosen(wanted)
        keys, values = (self._unpacked(name, rows, places, counts, wanted is None) for name in ("keys", "values"))
        return OpenPod(
            proximal,
            keys,
            values,
            positions,
            _by_layer(counts, len(self.distant)),
            self.distant[0].kept is None,
            self.layout.roots if sharing.mode == "A" else None,
            self.rotation,
            num_tokens,
            self.states,
        )

    def _keys(self, layer: int) -> list[Packed]:
        """Distant keys per KV head, rotated as they are kept: its own, or its root's."""
        packed = [self.distant[root].keys[head] for head, root in enumerate(self.layout.roots[layer])]
        return [each for each in packed if each]

    def _chosen(self, wanted: Tensor | None) -> tuple[list[int], Tensor, Tensor, Tensor]:
        """The distant slots of all tokens, or of those where `wanted` (T,) is true: how many each (layer, KV head) has,
        and of all N of them which of these it is of (N,), which of its slots it is (N,), and its position (N,).

        One look at all layers: to ask each KV head what it kept would be hundreds of waits for the device.
        """
        first, count = self._distant_tokens
        heads = len(self.distant) * len(self.distant[0].values)
        if self.distant[0].kept is None:
            kept = torch.ones(heads, count, dtype=torch.uint8, device=self.device)
        else:
            kept = unpack(torch.cat([layer.kept for layer in self.distant if layer.kept is not None]), 1)[:, :count]
        chosen = kept.bool() if wanted is None else kept.bool() & wanted[first : first + count]
        rows, tokens = chosen.nonzero(as_tuple=True)
        places = (kept.cumsum(1, dtype=torch.int32) - 1)[rows, tokens]
        return chosen.sum(1).tolist(), rows, places, tokens + first

    def _unpacked(self, name: str, rows: Tensor, places: Tensor, counts: Sequence[int], whole: bool) -> Tensor:
        """Keys or values (N, D), rotated as they are kept: what `_chosen` gave, which may be the `whole` of each."""
        dtype, packed = self.proximal.keys.dtype, self._packed[name]
        if not why_not_triton(self.device):
            # Needs Triton, which not every machine has.
            from engine.kernels.quant.gather import gather

            return gather(self._addresses[name], packed[0], rows, places, dtype)
        out = torch.empty(len(rows), self.proximal.keys.shape[-1], dtype=dtype, device=self.device)
        rooms, slots = torch.split(out, list(counts)), torch.split(places, list(counts))
        for each, room, chosen in zip(packed, rooms, slots, strict=True):
            room.copy_(dequantize(each, dtype, None if whole else chosen))
        return out

    @cached_property
    def _packed(self) -> Mapping[str, Sequence[Packed]]:
        """The distant keys and values that each layer and KV head meets, layer by layer."""
        return {
            "keys": [each for layer in range(len(self.distant)) for each in self._keys(layer)],
            "values": [each for layer in self.distant for each in layer.values],
        }

    @cached_property
    def _addresses(self) -> Mapping[str, Tensor]:
        """Where those are, for kernels."""
        from engine.kernels.quant.gather import addresses

        return {name: addresses(packed) for name, packed in self._packed.items()}

    def with_all_keys(self) -> "QuantizedPod":
        """The same with a key for every layer: predicted ones are worked out, and kept in the model's dtype."""
        layout, maps = self.layout, self.layout.maps
        if maps is None:
            return self
        known, positions, rotation = Unpacked(self), self.distant_positions(0, 0), self.rotation
        distant = []
        for layer, held in enumerate(self.distant):
            if layout.roots[layer][0] != layer:
                guess = known.keys(layer, maps, positions)
                rows = guess if rotation is None else rotated(guess, rotation)
                held = replace(held, keys=tuple(quantize(each, 16, "channel") for each in rows))
            distant.append(held)
        recipe = replace(layout.recipe, sharing=Sharing())
        roots = tuple((layer,) * len(each) for layer, each in enumerate(layout.roots))
        return QuantizedPod(Layout(recipe, roots), self.proximal, tuple(distant), self.num_tokens, self.states)

    def _whole(self, maps: KeyMaps, wanted: Tensor | None) -> Pod:
        """A pod that keeps all keys, of all tokens or those where `wanted` (T,) is true."""
        proximal, positions = self.proximal, self.distant_positions(0, 0)
        rows = None if wanted is None else wanted[positions].nonzero().squeeze(1)
        if wanted is not None:
            proximal = proximal.select(wanted[proximal.positions].nonzero().squeeze(1))
            positions = positions[rows]
        known, layers = Unpacked(self, rows), range(len(self.distant))
        keys = torch.cat([proximal.keys, torch.stack([known.keys(layer, maps, positions) for layer in layers])], 2)
        values = torch.cat([proximal.values, torch.stack([known.values(layer) for layer in layers])], 2)
        everywhere, order = torch.cat([proximal.positions, positions]).sort()
        stop = int(everywhere[-1]) + 1 if len(everywhere) else 0
        keys, values = keys.index_select(2, order), values.index_select(2, order)
        return Pod(keys, values, everywhere, stop, states=self.states)

    @property
    def rotation(self) -> Tensor | None:
        """The matrix that distant keys and values are rotated by, if they are."""
        return self.layout.recipe.precision.rotation(self.proximal.keys.shape[-1], self.device)

    def distant_positions(self, layer: int, head: int) -> Tensor:
        """Positions (K,) of a head's distant slots."""
        first, count = self._distant_tokens
        kept = self.distant[layer].kept
        if kept is None:
            return torch.arange(first, first + count, device=self.proximal.positions.device)
        return unpack(kept[head : head + 1], 1)[0, :count].nonzero().squeeze(1) + first

    @property
    def _distant_tokens(self) -> tuple[int, int]:
        """The first distant token, and how many there are."""
        return min(self.layout.recipe.sinks, self.num_tokens), self.num_tokens - len(self.proximal.positions)


class AnyPod(Protocol):
    """The frozen KV cache of a section, however it is kept: what the model attends to.

    Another way to read one (clusters, pages) is a pod around a pod, which chooses in `segments`.
    """

    @property
    def num_tokens(self) -> int:
        """Tokens that were read: what follows stands behind them."""

    @property
    def states(self) -> tuple[Tensor, ...]:
        """Behind all tokens, as KVShape has them; what a question goes on from, and changes nothing of."""

    @property
    def nbytes(self) -> int:
        """Bytes of everything a load must bring back."""

    @property
    def device(self) -> torch.device:
        """Where it is."""

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        """What a layer's query (H, Q, D), its rotary positions applied, attends to here; without one, everything."""

    def select(self, slots: Tensor) -> "AnyPod":
        """The same memory restricted to some tokens; see Pod.select."""

    def open(self) -> "AnyPod":
        """The same ready for many queries, unpacked once; itself where nothing is packed."""


class Unpacked:
    """Distant rows of a pod with key maps, in the space of the model; all of them, or the given ones (K,).

    It remembers what it has unpacked: several layers are predicted from the same ones.
    """

    def __init__(self, pod: QuantizedPod, rows: Tensor | None = None) -> None:
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
            packed = self._pod.distant[layer].keys if name == "keys" else self._pod.distant[layer].values
            dtype = self._pod.proximal.keys.dtype
            rows = torch.stack([dequantize(each, dtype, self._rows) for each in packed if each])
            self._known[name, layer] = rotated(rows, self._pod.rotation)
        return self._known[name, layer]


def _by_layer(counts: Sequence[int], layers: int) -> tuple[tuple[int, ...], ...]:
    heads = len(counts) // layers
    return tuple(tuple(counts[first : first + heads]) for first in range(0, len(counts), heads))


def _wanted(pod: "QuantizedPod | OpenPod", slots: Tensor) -> Tensor:
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
