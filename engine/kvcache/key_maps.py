"""KeyMaps: a layer's keys predicted by a linear map from what is stored of the same token anyway.

Keys and values of a layer are linear in the same hidden state, which changes little from layer to layer. So the keys
of most layers need not be stored: the root's keys (the nearest layer below that keeps its own) and the values of the
layer itself and of two below it know them, once positions are taken off the keys. The idea of predicting keys across
layers is that of AQUA-KV (arXiv 2501.19392); `python -m engine.training.sharing.map_fit` makes the maps of a model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.core.rope import Angles
from engine.kvcache import tensor_file
from engine.models.loader import Model

SHIPPED = Path(__file__).parent / "plans"
VALUE_LAYERS = 3
"""The layer itself and two below: one alone leaves 0.10 of the keys' variance unexplained, two 0.06, three 0.05, and
four hardly less (the embedded model)."""


@dataclass(frozen=True, eq=False)
class KeyMaps:
    """`roots[layer]` is the layer itself where its keys are stored, else the layer that they are predicted from.

    `weights[layer]` (I, G * D) maps `inputs` (K, I) to keys of all G heads, without positions.
    """

    roots: tuple[int, ...]
    weights: Mapping[int, Tensor]
    angles: Angles
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 over the roots and weights."""
        total = hashlib.sha256(f"{self.roots}".encode())
        for layer in sorted(self.weights):
            total.update(self.weights[layer].cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def predict(self, layer: int, root_keys: Tensor, values: Sequence[Tensor], positions: Tensor) -> Tensor:
        """Keys (G, K, D) from the root's keys (G, K, D) and the values (G, K, D) of the layers `value_layers(layer)`,
        all of the tokens at `positions` (K,)."""
        # In the dtype of the keys: its rounding is far less than what a map leaves unexplained.
        known = inputs(self.angles.undo(root_keys, positions).to(root_keys.dtype), values)
        keys = (known @ self.weights[layer].to(known)).view(len(known), len(root_keys), root_keys.shape[2])
        return self.angles.apply(keys.transpose(0, 1), positions).to(root_keys.dtype)

    def to(self, device: torch.device) -> "KeyMaps":
        """The same on a device."""
        return replace(self, weights={layer: weight.to(device) for layer, weight in self.weights.items()})

    def save(self, folder: Path, model: Model, saving: float) -> Path:
        """Write the file that `find` reads for this saving, in half precision; returns its path."""
        tensors = {str(layer): weight.half() for layer, weight in self.weights.items()}
        return tensor_file.write(
            folder, model, _kind(saving), tensors, {"roots": self.roots, "facts": dict(self.facts)}
        )


def value_layers(layer: int) -> range:
    """The layers whose values a layer's keys are predicted from."""
    return range(max(0, layer - VALUE_LAYERS + 1), layer + 1)


def inputs(root_keys: Tensor, values: Sequence[Tensor]) -> Tensor:
    """What keys are predicted from (K, I) in the wider dtype: root's keys without positions, values, a constant 1."""
    parts = [part.to(root_keys.dtype).transpose(0, 1).flatten(1) for part in (root_keys, *values)]
    return torch.cat([*parts, torch.ones_like(parts[0][:, :1])], 1)


def find(model: Model, saving: float, angles: Angles, *folders: Path) -> KeyMaps | None:
    """The maps of a model for a saving, from the first folder that has them; or None. An adapted model has those of
    the model that it was.

    Raises PlanMissing for a file that holds no maps.
    """

    def make(facts: dict[str, Any], tensors: dict[str, Tensor]) -> KeyMaps:
        weights = {int(name): tensor.float() for name, tensor in tensors.items()}
        return KeyMaps(tuple(facts["roots"]), weights, angles, facts["facts"])

    places = (*folders, SHIPPED)
    return tensor_file.find(model, _kind(saving), places, make, "key maps", "python -m engine.training.sharing.map_fit")


def _kind(saving: float) -> str:
    return f"linear{round(100 * saving)}"
