"""QuantizedStore: room for a packed pod that is filled chunk by chunk, while its section is read or loaded.

Every part of the pod is one tensor of bytes over all layers and KV heads, in which the tokens of a chunk are one run of
each head's bytes. So a chunk goes to a block, and comes back from one, by one copy a part. Letters: L layers, G KV
heads, T tokens, D head size, F distant tokens, N proximal ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from engine.core import quant
from engine.core.kv_shape import KVShape
from engine.core.quant import GROUP, Packed, scale_shape
from engine.kernels.card import why_not_triton
from engine.kvcache.exact import Pod
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import DistantLayer, QuantizedPod

ALIGNMENT = 64
"""Of every head's bytes, and of every part of a block; kernels want 16 at least."""


@dataclass(frozen=True)
class _Part:
    """Rows of `width` numbers, one for every `unit` tokens: distant ones, or proximal ones."""

    name: str
    distant: bool
    unit: int
    width: int
    dtype: torch.dtype

    def byte(self, tokens: int) -> int:
        """Where the bytes of so many tokens of a head end."""
        return -(-tokens // self.unit) * self.width * self.dtype.itemsize


@dataclass(frozen=True)
class _Place:
    """A chunk's bytes: first..stop of every head in the room of a part, from `offset` on in its block."""

    name: str
    first: int
    stop: int
    offset: int


class QuantizedStore:
    """Room for the first `held` tokens of a section of `num_tokens`, and what may be done with it.

    A chunk must end where a group of distant tokens does; see `cut`.
    """

    def __init__(
        self, layout: Layout, shape: KVShape, num_tokens: int, device: torch.device, held: int | None = None
    ) -> None:
        self.layout, self.shape, self.num_tokens, self.device = layout, shape, num_tokens, device
        self.held = num_tokens if held is None else held
        distant, precision = layout.recipe.distant(num_tokens), layout.recipe.precision
        self._sinks, self._most_far = distant.start, len(distant)
        self.rotation = precision.rotation(shape.head_dim, device)
        """The matrix (D, D) that distant keys and values are rotated by, if they are."""
        self._codec = _codec(device)
        self._parts = {part.name: part for part in _parts(layout, shape)}
        self._rooms = {name: self._room(part) for name, part in self._parts.items()}
        """Bytes (L, G, of a head)."""

    @property
    def rooms(self) -> list[Tensor]:
        """All memory of the store."""
        return [*self._rooms.values()]

    def distant(self, tokens: int) -> int:
        """How many of the first tokens are far."""
        return min(max(0, tokens - self._sinks), self._most_far)

    def proximal(self, tokens: int) -> int:
        """How many of the first tokens are near."""
        return tokens - self.distant(tokens)

    def cut(self, start: int, size: int) -> int:
        """Where a chunk of about `size` tokens from `start` on ends: with a group, or with the section."""
        stop = max(start, self._sinks) + max(GROUP, size - size % GROUP)
        return min(stop, self.num_tokens)

    def is_cut(self, tokens: int) -> bool:
        """Whether a chunk may end there."""
        distant = self.distant(tokens)
        return 0 < tokens <= self.num_tokens and (distant % GROUP == 0 or distant == self._most_far)

    def put(self, layer: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Keep a layer's keys and values (G, Q, D) of a chunk that begins at a token; what was there is overwritten."""
        stop = start + keys.shape[1]
        lead = min(max(0, self._sinks - start), keys.shape[1])
        end = lead + self.distant(stop) - self.distant(start)
        proximal = slice(self.proximal(start), self.proximal(stop))
        for name, rows, bits, per in self._both(keys, values):
            self._view(f"near {name}", layer)[:, proximal] = torch.cat([rows[:, :lead], rows[:, end:]], 1)
            if end > lead:
                into = self._packed(name, layer, bits, per, self.distant(start), self.distant(stop))
                self._codec.quantize_into(rows[:, lead:end], into, self.rotation)

    def exact(self, layer: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Proximal keys and values (G, N, D) of the first tokens."""
        stop = self.proximal(tokens)
        return self._view("near keys", layer)[:, :stop], self._view("near values", layer)[:, :stop]

    def read(self, layer: int, first: int, stop: int, keys: Tensor, values: Tensor) -> None:
        """Distant keys and values first..stop into (G, stop - first, D) each, rotated as they are kept.

        `first` must be the first of a group.
        """
        for name, out, bits, per in self._both(keys, values):
            self._codec.dequantize_into(self._packed(name, layer, bits, per, first, stop), out)

    def pod(self) -> QuantizedPod:
        """The pod of the tokens held, which looks at this store's memory."""
        sinks = min(self._sinks, self.held)
        positions = [*range(sinks), *range(self.distant(self.held) + sinks, self.held)]
        proximal = torch.tensor(positions, dtype=torch.long, device=self.device)
        keys, values = (self._typed(f"near {name}", self._rooms[f"near {name}"]) for name in ("keys", "values"))
        distant = tuple(self._distant_layer(layer) for layer in range(self.shape.layers))
        return QuantizedPod(self.layout, Pod(keys, values, proximal, self.held), distant, self.held)

    def num_bytes(self, start: int, stop: int) -> int:
        """Bytes of a chunk's block."""
        *_, last = self._places(start, stop)
        return last.offset + self._aligned(last)

    def gather(self, start: int, stop: int) -> Tensor:
        """The bytes (n,) of a chunk's block, on the device."""
        # What lies between the parts must be the same every time.
        flat = torch.zeros(self.num_bytes(start, stop), dtype=torch.uint8, device=self.device)
        for place in self._places(start, stop):
            self._bytes(flat, place).copy_(self._rooms[place.name][:, :, place.first : place.stop])
        return flat

    def scatter(self, start: int, stop: int, flat: Tensor) -> None:
        """Put the bytes (n,) of a chunk's block where they belong."""
        for place in self._places(start, stop):
            self._rooms[place.name][:, :, place.first : place.stop] = self._bytes(flat, place)

    def _places(self, start: int, stop: int) -> Iterator[_Place]:
        offset = 0
        for name, part in self._parts.items():
            count = self.distant if part.distant else self.proximal
            place = _Place(name, part.byte(count(start)), part.byte(count(stop)), offset)
            yield place
            offset += self._aligned(place)

    def _aligned(self, place: _Place) -> int:
        size = self.shape.layers * self.shape.kv_heads * (place.stop - place.first)
        return size + -size % ALIGNMENT

    def _bytes(self, flat: Tensor, place: _Place) -> Tensor:
        """A part's bytes (L, G, n) in those of a block."""
        layers, heads, width = self.shape.layers, self.shape.kv_heads, place.stop - place.first
        return flat[place.offset : place.offset + layers * heads * width].view(layers, heads, width)

    def _room(self, part: _Part) -> Tensor:
        # Never empty: memory of no bytes cannot be seen as another dtype.
        size = max(1, part.byte(self.distant(self.held) if part.distant else self.proximal(self.held)))
        size += -size % ALIGNMENT
        layers, heads = self.shape.layers, self.shape.kv_heads
        return torch.empty(layers, heads, size, dtype=torch.uint8, device=self.device)

    def _view(self, name: str, layer: int) -> Tensor:
        """The rows (G, n, width) of a layer's part."""
        return self._typed(name, self._rooms[name][layer])

    def _typed(self, name: str, room: Tensor) -> Tensor:
        part = self._parts[name]
        size = part.byte(self.distant(self.held) if part.distant else self.proximal(self.held))
        rows = room[..., :size].view(part.dtype)
        return rows.view(*room.shape[:-1], rows.shape[-1] // part.width, part.width)

    def _both(self, keys: Tensor, values: Tensor) -> Iterator[tuple[str, Tensor, int, str]]:
        for (name, bits, per), rows in zip(self.layout.recipe.precision.parts, (keys, values), strict=True):
            yield name, rows, bits, per

    def _packed(self, name: str, layer: int, bits: int, per: str, first: int, stop: int) -> Packed:
        """Distant rows first..stop of all KV heads: a Packed with a leading G."""
        codes = self._view(name, layer)[:, first:stop]
        if bits == 16:
            nothing = torch.empty(len(codes), 0, dtype=torch.float16, device=self.device)
            return Packed(bits, per, codes, nothing, nothing)
        unit = self._parts[f"{name} scales"].unit
        groups = slice(first // unit, -(-stop // unit))
        scales, zeros = (self._view(f"{name} {kind}", layer)[:, groups] for kind in ("scales", "zeros"))
        return Packed(bits, per, codes, scales, zeros)

    def _distant_layer(self, layer: int) -> DistantLayer:
        both, stop = self.layout.recipe.precision.parts, self.distant(self.held)
        keys, values = (_by_head(self._packed(name, layer, bits, per, 0, stop)) for name, bits, per in both)
        return DistantLayer(keys, values, None)


def _parts(layout: Layout, shape: KVShape) -> Iterator[_Part]:
    dim = shape.head_dim
    for name, bits, per in layout.recipe.precision.parts:
        yield _Part(f"near {name}", False, 1, dim, shape.dtype)
        if bits == 16:
            yield _Part(name, True, 1, dim, shape.dtype)
            continue
        yield _Part(name, True, 1, dim * bits // 8, torch.uint8)
        unit, width = GROUP if per == "channel" else 1, scale_shape(1, dim, per)[1]
        for kind in ("scales", "zeros"):
            yield _Part(f"{name} {kind}", True, unit, width, torch.float16)


def _by_head(packed: Packed) -> tuple[Packed, ...]:
    rows = zip(packed.codes, packed.scales, packed.zeros, strict=True)
    return tuple(Packed(packed.bits, packed.per, *each) for each in rows)


def _codec(device: torch.device) -> ModuleType:
    """What has `quantize_into` and `dequantize_into`; engine.core.quant specifies both."""
    if why_not_triton(device):
        return quant
    # Needs Triton, which not every machine has.
    from engine.kernels import quant as kernels

    return kernels
