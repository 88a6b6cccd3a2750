"""Compressing an exact pod by a recipe: choose slots, drop the keys that layers share, quantize what is left."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pkgutil import resolve_name

import torch
from torch import Tensor

from engine.compression.policies.base import Score, Subject
from engine.compression.top_k import top_k
from engine.core.quant import Packed, dequantize, pack, quantize, rotated
from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.kvcache.key_maps import KeyMaps, value_layers
from engine.kvcache.layout import Layout
from engine.kvcache.quantized import DistantLayer, QuantizedPod
from engine.kvcache.summaries import SUMMARIES
from engine.runtime.runner import Runner

_POLICIES = "engine.compression.policies"


def score(
    runner: Runner, ids: Sequence[int], exact: Pod, layout: Layout, known: Scores | None = None
) -> Iterator[Scores]:
    """What the recipe's policy thinks of each slot, after every piece of work; nothing where all slots stay."""
    recipe = layout.recipe
    if recipe.selection.drops and recipe.distant(exact.num_tokens):
        policy: Score = resolve_name(f"{_POLICIES}.{recipe.selection.by.score}")
        yield from policy(Subject(runner, ids, exact, recipe), known)


def pack_pod(exact: Pod, layout: Layout, scores: Scores | None = None) -> QuantizedPod:
    """The compressed pod, from whole scores where the recipe does not keep every slot."""
    proximal, far = layout.proximal(exact.num_tokens), layout.recipe.distant(exact.num_tokens)
    selection, kept, folded = layout.recipe.selection, None, exact
    summary: tuple[tuple[Tensor, ...], ...] = ()
    if scores is not None:
        kept = top_k(scores.values[:, :, far.start : far.stop], layout, selection.by.pooled)
        if selection.by.merge:
            folded = resolve_name(f"{_POLICIES}.{selection.by.merge}")(exact, far, kept)
        if selection.summary:
            made = SUMMARIES[selection.summary].make(exact, far, kept, selection, layout.learned.tensors)
            summary = tuple(made)
    packing = _Packing(folded, layout, far, kept)
    distant = tuple(packing.layer(layer) for layer in range(len(exact.keys)))
    near = replace(exact, states=()).select(torch.tensor(proximal, dtype=torch.long))
    return QuantizedPod(layout, near, distant, exact.num_tokens, exact.states, summary)


class _Packing:
    """Packs one layer after the other; predicted keys need those of the layers below as they will be read back."""

    def __init__(self, exact: Pod, layout: Layout, far: range, kept: Tensor | None) -> None:
        self._exact = exact
        self._layout = layout
        self._far = far
        self._rotation = layout.recipe.precision.rotation(exact.keys.shape[-1], exact.device)
        self._kept = kept
        self._read_back: dict[tuple[str, int], Tensor] = {}
        """Keys and values (G, K, D) as they will be read back, which predictions are made from."""

    def layer(self, layer: int) -> DistantLayer:
        """The distant part of one layer."""
        heads, recipe = range(self._exact.keys.shape[1]), self._layout.recipe
        bits = recipe.precision.values
        values = [self._pack(self._rows(self._exact.values, layer, head), bits, "token") for head in heads]
        if recipe.sharing.residual_bits:
            self._read_back["values", layer] = torch.stack([self._unpack(each) for each in values])
        keys = self._keys(layer, heads)
        kept = None if self._kept is None else _bits(self._kept[layer])
        return DistantLayer(tuple(keys), tuple(values), kept)

    def _keys(self, layer: int, heads: range) -> Sequence[Packed | None]:
        layout = self._layout
        exact = [self._rows(self._exact.keys, layer, head) for head in heads]
        if layout.maps is not None and layout.recipe.sharing.residual_bits and layout.maps.roots[layer] != layer:
            predicted = self._predicted(layer, layout.maps)
            exact = [rows - there for rows, there in zip(exact, predicted, strict=True)]
        keys = [
            self._pack(rows, layout.key_bits(layer, head), "channel") if layout.stores_keys(layer, head) else None
            for head, rows in zip(heads, exact, strict=True)
        ]
        if layout.maps is not None and layout.maps.roots[layer] == layer:
            self._read_back["keys", layer] = torch.stack([self._unpack(each) for each in keys if each])
        return keys

    def _predicted(self, layer: int, maps: KeyMaps) -> Tensor:
        values = [self._read_back["values", below] for below in value_layers(layer)]
        positions = torch.arange(self._far.start, self._far.stop, device=self._exact.keys.device)
        return maps.predict(layer, self._read_back["keys", maps.roots[layer]], values, positions)

    def _rows(self, tensor: Tensor, layer: int, head: int) -> Tensor:
        """The kept distant rows (K, D) of exact keys or values."""
        rows = tensor[layer, head, self._far.start : self._far.stop]
        return rows if self._kept is None else rows[self._kept[layer, head]]

    def _pack(self, rows: Tensor, bits: int, per: str) -> Packed:
        return quantize(rotated(rows, self._rotation), bits, per)

    def _unpack(self, packed: Packed) -> Tensor:
        return rotated(dequantize(packed, self._exact.keys.dtype), self._rotation)


def _bits(kept: Tensor) -> Tensor:
    """One bit per distant token (G, F / 8 rounded up)."""
    pad = -kept.shape[1] % 8
    return pack(torch.nn.functional.pad(kept, (0, pad)).to(torch.uint8), 1)
