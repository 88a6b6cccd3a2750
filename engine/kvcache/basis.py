"""Basis: directions in which the keys, and the values, of many layers of a token vary together.

A token's keys of a group of layers and all their KV heads, without their positions, are one vector, and its values
another. Their principal components (Karhunen-Loeve transform; across layers as in KVTC, arXiv 2511.01815) need far
fewer bits than the layers do one by one. Before that both are weighted by what the model's predictions tell of them
(their Fisher information, see engine.compression.basis_fit), so that a squared error stands for the divergence that it
brings. Of a small model all layers are one group.

Letters: L layers, G KV heads, D head size, H heads of a group's layers, N = H * D, T tokens, R directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from engine.core.rope import Angles
from engine.kvcache import tensor_file
from engine.models.families.registry import angles_of
from engine.models.loader import Model

FORMAT = 3
_KIND = "basis"
_PARTS = ("mean", "weights", "directions", "spread")


@dataclass(frozen=True, eq=False)
class Transform:
    """Of a group's keys or values: x (T, N) becomes z (T, R) = (x - mean) weights directions.

    `weights` (H, D, D) of each head; `directions` (N, R) are orthonormal, and `spread` (R,) is the standard deviation
    along each, falling.
    """

    mean: Tensor
    weights: Tensor
    directions: Tensor
    spread: Tensor

    def onto(self, rows: Tensor, spread: float, dtype: torch.dtype) -> Tensor:
        """The components (T, R') of heads (H, T, D), along directions spread at least so, for a model of a dtype."""
        heads = (rows.float() - self._means) @ self.weights
        turned = heads.transpose(0, 1).flatten(1)
        directions = self._directions(dtype)[:, : self.within(spread)]
        return (turned.to(directions.dtype) @ directions).float()

    def back(self, components: Tensor, dtype: torch.dtype) -> Tensor:
        """The heads (H, T, D) that components (T, R') stand for."""
        directions = self._directions(dtype)[:, : components.shape[1]]
        turned = (components.to(directions.dtype) @ directions.T).float().view(-1, *self.weights.shape[:2])
        return turned.transpose(0, 1) @ self._unweighted + self._means

    def first(self, count: int) -> "Transform":
        """That of so many directions alone."""
        return replace(self, directions=self.directions[:, :count].clone(), spread=self.spread[:count].clone())

    def _directions(self, dtype: torch.dtype) -> Tensor:
        """In what the device multiplies fast: as they are kept on a GPU; on a processor of less digits, for a model
        whose keys have as few, since that error is small beside the one of rounding to steps."""
        if self.directions.is_cuda:
            return self.directions
        return self._in_float if dtype == torch.float32 else self._in_bfloat

    @cached_property
    def _in_float(self) -> Tensor:
        return self.directions.float()

    @cached_property
    def _in_bfloat(self) -> Tensor:
        return self.directions.bfloat16()

    @cached_property
    def _means(self) -> Tensor:
        return self.mean.view(len(self.weights), 1, -1)

    @cached_property
    def _unweighted(self) -> Tensor:
        inverse: Tensor = torch.linalg.inv(self.weights)
        return inverse

    def bits(self, step: float) -> float:
        """Of a token's components, rounded to multiples of a step: the entropy of Laplace distributions."""
        scale = (self.spread.double() / 2**0.5 / step).clamp_min(1e-3)
        zero, falls = 1 - torch.exp(-0.5 / scale), torch.exp(-1 / scale)
        # Of those that are not zero: the sign, and how much farther, which is geometric.
        further = -((1 - falls).log2() + falls / (1 - falls) * falls.log2())
        entropy = -zero * zero.log2() + (1 - zero) * (1 - (1 - zero).log2() + further)
        return float(entropy.nan_to_num().sum())

    def within(self, spread: float) -> int:
        """How many directions, from the first, are spread at least so."""
        return int((self.spread >= spread).sum())


@dataclass(frozen=True, eq=False)
class Basis:
    """The transforms of keys and of values, a group of layers after the other; `facts` says what they were found on."""

    keys: tuple[Transform, ...]
    values: tuple[Transform, ...]
    angles: Angles
    facts: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """BLAKE3 over all numbers."""
        total = blake3(f"{FORMAT}".encode(), max_threads=blake3.AUTO)
        for tensor in self._tensors().values():
            total.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()

    @property
    def sides(self) -> tuple[Transform, ...]:
        """All transforms, in the order of what `analyse` gives."""
        return (*self.keys, *self.values)

    def analyse(self, keys: Tensor, values: Tensor, positions: Tensor, spread: float) -> list[Tensor]:
        """Components (T, R') of each group's keys (L, G, T, D), at positions (T,), and then of its values, of
        directions spread at least so."""
        count = len(self.keys)
        rows = [*keys.flatten(0, 1).tensor_split(count), *values.flatten(0, 1).tensor_split(count)]
        rows[:count] = [self.angles.undo(each, positions) for each in rows[:count]]
        return [side.onto(each, spread, keys.dtype) for side, each in zip(self.sides, rows, strict=True)]

    def restore(self, components: Sequence[Tensor], positions: Tensor, out: Tensor) -> None:
        """Put the keys and values into `out` (2, L, G, T, D) that components, as of `analyse`, stand for."""
        count = len(self.keys)
        rooms = [part for room in out for part in room.flatten(0, 1).tensor_split(count)]
        for number, (side, each, room) in enumerate(zip(self.sides, components, rooms, strict=True)):
            rows = side.back(each, out.dtype)
            room.copy_(self.angles.apply(rows, positions) if number < count else rows)

    def bits(self, step: float) -> float:
        """About what a token takes: along directions found on few samples other texts are spread wider than those."""
        return float(self.facts.get("taken", 1.0)) * sum(side.bits(step) for side in self.sides)

    def save(self, folder: Path, model: Model) -> Path:
        """Write the file that `find` reads; returns its path."""
        return tensor_file.write(folder, model, _KIND, self._tensors(), {"facts": self.facts})

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}.{number}.{part}": getattr(transform, part)
            for name, transforms in (("keys", self.keys), ("values", self.values))
            for number, transform in enumerate(transforms)
            for part in _PARTS
        }


def find(model: Model, *folders: Path) -> Basis | None:
    """A model's basis, from the first folder that has it; or None. Raises PlanMissing for a file that holds none."""

    def make(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Basis:
        numbers = range(len(tensors) // (2 * len(_PARTS)))
        keys, values = (
            tuple(Transform(*(tensors[f"{name}.{number}.{part}"] for part in _PARTS)) for number in numbers)
            for name in ("keys", "values")
        )
        return Basis(keys, values, angles_of(model.network, model.shape.head_dim), facts["facts"])

    return tensor_file.find(model, _KIND, folders, make, "basis", "docpod readers prepare")
