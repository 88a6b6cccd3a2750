"""Basis: directions in which the keys, and the values, of all layers of a token vary together.

A token's keys of all layers and KV heads, without their positions, are one vector, and its values another. Their
principal components (Karhunen-Loeve transform; across layers as in KVTC, arXiv 2511.01815) need far fewer bits than
the layers do one by one. Before that both are weighted by what the model's predictions tell of them (their Fisher
information, see engine.sharing.basis_fit), so that a squared error stands for the divergence that it brings.

Letters: L layers, G KV heads, D head size, N = L * G * D, T tokens, R directions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.core.rope import Angles
from engine.kvcache import tensor_file
from engine.models.families.registry import angles_of
from engine.models.loader import Model

FORMAT = 2
_KIND = "basis"
_PARTS = ("mean", "weights", "directions", "spread")


@dataclass(frozen=True, eq=False)
class Transform:
    """Of keys or of values: x (T, N) becomes z (T, R) = (x - mean) weights directions.

    `weights` (L * G, D, D) of each head; `directions` (N, R) are orthonormal, and `spread` (R,) is the standard
    deviation along each, falling.
    """

    mean: Tensor
    weights: Tensor
    directions: Tensor
    spread: Tensor

    @cached_property
    def forward(self) -> Tensor:
        """(N, R)."""
        return self._turned(self.weights)

    @cached_property
    def backward(self) -> Tensor:
        """(R, N)."""
        return self._turned(torch.linalg.inv(self.weights).mT).T.contiguous()

    @cached_property
    def in_half(self) -> tuple[Tensor, Tensor]:
        """Both in bfloat16, for a model whose keys are: the error is small beside that of rounding to steps."""
        unweighted = self._turned(torch.linalg.inv(self.weights).mT).bfloat16()
        return self._turned(self.weights).bfloat16(), unweighted.T.contiguous()

    def _turned(self, weights: Tensor) -> Tensor:
        blocks = self.directions.float().view(*self.weights.shape[:2], -1)
        return (weights @ blocks).flatten(0, 1)

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
    """The transforms of keys and of values; `facts` says what they were found on."""

    keys: Transform
    values: Transform
    angles: Angles
    facts: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """sha256 over all numbers."""
        total = hashlib.sha256(f"{FORMAT}".encode())
        for tensor in self._tensors().values():
            total.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def analyse(self, keys: Tensor, values: Tensor, positions: Tensor, spread: float) -> tuple[Tensor, Tensor]:
        """Components (T, R') of keys and of values (L, G, T, D) at positions (T,), of directions spread at least so."""
        sides = (self.angles.undo(keys, positions), self.keys), (values.float(), self.values)
        of_keys, of_values = (_onto(*each, spread, keys.dtype) for each in sides)
        return of_keys, of_values

    def restore(
        self, keys: Tensor, values: Tensor, positions: Tensor, dims: tuple[int, int, int], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (L, G, T, D), in float32 and for a model of this dtype, from their components (T, R'); `dims`
        are L, G and D."""
        plain, whole = (_back(*each, dims, dtype) for each in ((keys, self.keys), (values, self.values)))
        return self.angles.apply(plain, positions), whole

    def bits(self, step: float) -> float:
        """About what a token takes."""
        return self.keys.bits(step) + self.values.bits(step)

    def save(self, folder: Path, model: Model) -> Path:
        """Write the file that `find` reads; returns its path."""
        return tensor_file.write(folder, model, _KIND, self._tensors(), {"facts": self.facts})

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{side}.{name}": getattr(transform, name)
            for side, transform in (("keys", self.keys), ("values", self.values))
            for name in _PARTS
        }


def _onto(rows: Tensor, transform: Transform, spread: float, dtype: torch.dtype) -> Tensor:
    forward = (transform.in_half[0] if dtype == torch.bfloat16 else transform.forward)[:, : transform.within(spread)]
    flat = rows.permute(2, 0, 1, 3).flatten(1) - transform.mean
    return (flat.to(forward.dtype) @ forward).float()


def _back(components: Tensor, transform: Transform, dims: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    layers, heads, dim = dims
    backward = (transform.in_half[1] if dtype == torch.bfloat16 else transform.backward)[: components.shape[1]]
    flat = (components.to(backward.dtype) @ backward).float().add_(transform.mean)
    return flat.view(-1, layers, heads, dim).permute(1, 2, 0, 3)


def find(model: Model, *folders: Path) -> Basis | None:
    """A model's basis, from the first folder that has it; or None. Raises PlanMissing for a file that holds none."""

    def make(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Basis:
        keys, values = (Transform(*(tensors[f"{side}.{name}"] for name in _PARTS)) for side in ("keys", "values"))
        return Basis(keys, values, angles_of(model.network, model.shape.head_dim), facts["facts"])

    return tensor_file.find(model, _KIND, folders, make, "basis", "docpod readers prepare")
