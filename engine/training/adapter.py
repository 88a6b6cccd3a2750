"""Adapter: what post-training leaves behind, as one safetensors file, and how a network takes it on.

The file says which weights it belongs to: the model's digest, and the sharing plan that it was trained under.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.core.atomic import atomic_write
from engine.core.system_errors import as_os_errors
from engine.models.loader import Model
from engine.training.errors import AdapterMismatch
from engine.training.lora import LowRank

KINDS = ("low-rank", "all-weights")


@dataclass(frozen=True)
class Adapter:
    """Trained weights, what they belong to, and how they were made.

    `mode` A, B or linear, or `dense` for a control without sharing (its `roots` are empty); `rank` and `scale` are
    those of low-rank weights; `facts` (numbers, texts, the loss curve) are for people.
    """

    kind: str
    model: str
    model_digest: str
    mode: str
    roots: tuple[tuple[int, ...], ...]
    sinks: int
    recent: int
    rank: int
    scale: float
    facts: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    digest: str = ""
    """sha256 of the file, once there is one: memories made with an adapter fit no other."""

    def save(self, path: Path) -> Path:
        """Write the file whole or not at all; returns its path."""
        head = {name: getattr(self, name) for name in _HEAD}
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()}
        with atomic_write(path) as scratch:
            save_file(weights, scratch, {"docpod": json.dumps(head)})
        return path


_HEAD = ("kind", "model", "model_digest", "mode", "roots", "sinks", "recent", "rank", "scale", "facts")


def load(path: Path) -> Adapter:
    """Read an adapter's file. Raises AdapterMismatch if it is none."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with as_os_errors(), safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {})["docpod"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head["roots"] = tuple(map(tuple, head["roots"]))
        adapter = Adapter(**head, weights=weights, digest=digest)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise AdapterMismatch(f"{path} is no adapter: {error}") from error
    if adapter.kind not in KINDS:
        raise AdapterMismatch(f"{path} is an adapter of kind {adapter.kind!r}; known are {', '.join(KINDS)}")
    return adapter


def adapt_network(path: Path, model: Model) -> None:
    """Change a model's network to what it was trained to be, without a cost where its weights are floating point; plans
    and maps stay those of the model as it was.

    Raises AdapterMismatch, as `load` and `apply` do.
    """
    additions = apply(load(path), model.network, model.digest)
    if additions is not None and not getattr(model.network, "is_quantized", False):
        additions.merge()


def apply(adapter: Adapter, network: Any, model_digest: str) -> LowRank | None:
    """Let a network act as it was trained to: low-rank additions are attached (and returned, so that they can be
    switched off, merged or removed), all weights are replaced.

    Raises AdapterMismatch, and leaves the network as it is, where the file belongs to other weights.
    """
    if adapter.model_digest != model_digest:
        raise AdapterMismatch(
            f"this adapter was trained for {adapter.model} ({adapter.model_digest[:12]}), not for these weights "
            f"({model_digest[:12]}); post-train it again for this model"
        )
    if adapter.kind == "low-rank":
        return LowRank(network, adapter.weights, adapter.scale)
    own = dict(network.named_parameters())
    fits = {name: weight.shape for name, weight in own.items()}
    if {name: weight.shape for name, weight in adapter.weights.items()} != fits:
        raise AdapterMismatch(f"{len(adapter.weights)} weights do not fit a network of {len(own)}")
    with torch.no_grad():
        for name, weight in adapter.weights.items():
            own[name].copy_(weight)
    return None
