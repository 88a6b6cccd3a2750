"""LowRank: small trained additions to a model's attention projections, which leave its own weights alone (LoRA).

Each projection's output gains `scale * up(down(input))` by a hook, so packed 4-bit weights can be adapted too; `merge`
puts the additions into plain weights, where they cost nothing (arXiv 2106.09685).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import PlanMissing

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
SCALE = 2.0


class LowRank(nn.Module):
    """Pairs of matrices, down (rank, inputs) and up (outputs, rank), by the name of the projection they add to.

    Fresh ones add nothing. They act while they are attached and `active`.
    """

    def __init__(self, network: nn.Module, rank: int = 32, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.active = True
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, module in projections(network):
            device = next(module.parameters()).device
            sizes = module.in_features, module.out_features
            start = torch.randn(rank, sizes[0], generator=generator) / math.sqrt(sizes[0])
            self.down[_key(name)] = nn.Parameter(start.to(device))
            self.up[_key(name)] = nn.Parameter(torch.zeros(sizes[1], rank, device=device))

    def student(self, network: Any) -> Any:
        """The network that is trained: the one that the additions act on."""
        return network

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[None]:
        """Let the additions act on a network."""
        hooks = [module.register_forward_hook(self._hook(_key(name))) for name, module in projections(network)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def attach(self, network: nn.Module) -> None:
        """Let the additions act on a network for good."""
        for name, module in projections(network):
            module.register_forward_hook(self._hook(_key(name)))

    @torch.no_grad()
    def merge(self, network: nn.Module) -> None:
        """Add everything to the network's own weights, which must be plain numbers."""
        for name, module in projections(network):
            added = SCALE * (self.up[_key(name)].float() @ self.down[_key(name)].float())
            module.weight.copy_(module.weight.float() + added.to(module.weight.device))

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write the matrices in bfloat16, with facts about whose they are and how they came about."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().bfloat16().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, path, {"facts": json.dumps(dict(facts))})

    def _hook(self, key: str) -> Any:
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self.active:
                return None
            given = inputs[0]
            added = (given @ self.down[key].to(given.dtype).T) @ self.up[key].to(given.dtype).T
            total: Tensor = output + (SCALE * added).to(output.dtype)
            return total

        return add


def projections(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The projections that are adapted, by name, whatever their weights are stored as."""
    for name, module in network.named_modules():
        if name.rsplit(".", 1)[-1] in PROJECTIONS:
            yield name, module


def facts_of(path: Path) -> dict[str, Any]:
    """What a file of additions says of itself, and `digest`, the sha256 of the file."""
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    with path.open("rb") as raw:
        return {**facts, "digest": hashlib.file_digest(raw, "sha256").hexdigest()}


def load(path: Path, network: nn.Module, model_digest: str) -> LowRank:
    """The additions of a file. Raises PlanMissing where they were trained for another model."""
    facts = facts_of(path)
    if facts["model_digest"] != model_digest:
        raise PlanMissing(f"{path.name} adapts {facts['model']}, with other weights than this model's")
    made = LowRank(network, int(facts["rank"]))
    with safe_open(path, "pt") as file:
        made.load_state_dict({name: file.get_tensor(name).float() for name in made.state_dict()})
    return made


def _key(name: str) -> str:
    # Dots separate modules in a state dict.
    return name.replace(".", "/")
