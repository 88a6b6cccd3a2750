"""AllWeights: every weight of a model trained, in a copy of it; the alternative to small additions."""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from engine.errors import CalibrationFailed, PlanMissing

KIND = "all weights"


class AllWeights(nn.Module):
    """A copy of a network in float32 that is trained; what LowRank is for additions."""

    def __init__(self, network: Any) -> None:
        """Raises CalibrationFailed for a network in 4 bits, whose weights cannot move."""
        super().__init__()
        if getattr(network, "is_quantized", False):
            raise CalibrationFailed("this model's weights are in 4 bits: only additions to them can be trained")
        self.active = True
        self.network = copy.deepcopy(network).float().requires_grad_(True)

    def student(self, network: Any) -> Any:
        """The copy while it is active, else the network itself."""
        return self.network if self.active else network

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[None]:
        """Nothing to attach: the copy is complete."""
        yield

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the trained weights in bfloat16, with facts about whose they are and how they came about."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().bfloat16().cpu() for name, value in self.network.named_parameters()}
        save_file(tensors, path, {"facts": json.dumps({**facts, "kind": KIND})})


@torch.no_grad()
def load(path: Path, network: nn.Module, model_digest: str) -> None:
    """Put the weights of a file into a network. Raises PlanMissing where they came from another model."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        if facts["model_digest"] != model_digest:
            raise PlanMissing(f"{path.name} adapts {facts['model']}, with other weights than this model's")
        for name, value in network.named_parameters():
            value.copy_(file.get_tensor(name).to(value.dtype))
