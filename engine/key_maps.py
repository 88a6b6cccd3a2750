"""KeyMaps: upper layers' keys predicted from the keys of their block's root, all heads together, by linear maps.

    python -m engine.map_fit --model embedded --models DIR --saving 0.35 --out DIR

fits them for a model that has a sharing plan.

The residual between prediction and truth has a smaller range than the keys, so it needs fewer bits (the idea of
AQUA-KV, arXiv 2501.19392, along PoD's blocks).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.sharing import SharingPlan

SHIPPED = Path(__file__).parent / "plans"
RIDGE = 1e-4
"""Regularisation, as a share of the mean square of the inputs."""


@dataclass(frozen=True)
class KeyMaps:
    """`weights[(layer, kv_head)]` (G * D + 1, D) maps the root's keys of all heads, and a constant 1, to the keys."""

    weights: dict[tuple[int, int], Tensor]

    @property
    def digest(self) -> str:
        """sha256 over the weights."""
        total = hashlib.sha256()
        for key in sorted(self.weights):
            total.update(f"{key}".encode() + self.weights[key].cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    def predict(self, layer: int, kv_head: int, root_keys: Tensor) -> Tensor:
        """Keys (K, D) from the root's keys (G, K, D) at the same slots."""
        weight = self.weights[layer, kv_head].to(root_keys.device)
        inputs = root_keys.transpose(0, 1).flatten(1).float()
        return (inputs @ weight[:-1] + weight[-1]).to(root_keys.dtype)

    def save(self, folder: Path, plan: SharingPlan, saving: float) -> Path:
        """Write the file that `find` reads for this saving, in half precision; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = _path(folder, plan.model, saving)
        tensors = {f"{layer}.{head}": weight.half().contiguous() for (layer, head), weight in self.weights.items()}
        save_file(tensors, path, {"digest": plan.digest, "roots": str(plan.roots)})
        return path


def fit(plan: SharingPlan, samples: Sequence[Tensor]) -> KeyMaps:
    """Least squares over samples of exact keys (L, G, T, D) from different texts."""
    shared = [
        (layer, head, root) for layer, row in enumerate(plan.roots) for head, root in enumerate(row) if root != layer
    ]
    inner: dict[int, Tensor] = {}
    outer: dict[tuple[int, int], Tensor] = {}
    for keys in samples:
        ones = torch.ones(keys.shape[2], 1, dtype=torch.float64, device=keys.device)
        inputs = {
            root: torch.cat([keys[root].transpose(0, 1).flatten(1).double(), ones], 1)
            for root in {root for _, _, root in shared}
        }
        for root, x in inputs.items():
            inner[root] = inner.get(root, 0) + x.T @ x
        for layer, head, root in shared:
            outer[layer, head] = outer.get((layer, head), 0) + inputs[root].T @ keys[layer, head].double()
    weights = {}
    for layer, head, root in shared:
        gram = inner[root]
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        # Through the precision of the file, so that what is fitted is what is found again.
        weights[layer, head] = torch.linalg.solve(gram + ridge, outer[layer, head]).half().float()
    return KeyMaps(weights)


def find(plan: SharingPlan, saving: float, *folders: Path) -> KeyMaps | None:
    """The maps for a plan, which was asked for by its saving, from the first folder that has them; or None."""
    for folder in (*folders, SHIPPED):
        path = _path(folder, plan.model, saving)
        if not path.exists():
            continue
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            if facts["digest"] == plan.digest and facts["roots"] == str(plan.roots):
                names = {name: tuple(map(int, name.split("."))) for name in file.keys()}  # noqa: SIM118
                return KeyMaps({(key[0], key[1]): file.get_tensor(name).float() for name, key in names.items()})
    return None


def _path(folder: Path, model: str, saving: float) -> Path:
    return folder / f"{model.replace('/', '--')}.pod{round(100 * saving)}.maps.safetensors"
