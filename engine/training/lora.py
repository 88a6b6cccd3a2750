"""LowRank: trained low-rank additions to a frozen network's projections of queries, keys, values and outputs.

LoRA (arXiv 2106.09685): a projection gives W x + scale * up(down(x)), with `down` (rank, in) and `up` (out, rank).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.training.errors import AdapterMismatch

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


class LowRank:
    """Additions to every attention projection of one network; `enabled` says whether they act.

    They act through forward hooks, so the weights below may be of any kind, 4-bit ones too. `weights` holds one
    float32 leaf for each half, as `model.layers.0.self_attn.q_proj.down`; the arithmetic is of the input's dtype.
    """

    def __init__(self, network: torch.nn.Module, weights: Mapping[str, Tensor], scale: float) -> None:
        """Attach (name.down, name.up) weights. Raises AdapterMismatch where they do not fit the network."""
        self.scale = scale
        self.enabled = True
        self._modules = _projections(network)
        shapes = {f"{name}.{half}" for name in self._modules for half in ("down", "up")}
        if set(weights) != shapes:
            raise AdapterMismatch(f"an adapter of {len(weights)} weights for a network that takes {len(shapes)}")
        device = next(network.parameters()).device
        self.weights = {name: weight.detach().to(device, torch.float32) for name, weight in weights.items()}
        for name, module in self._modules.items():
            down, up = self.weights[f"{name}.down"], self.weights[f"{name}.up"]
            if (up.shape[0], down.shape[1], up.shape[1]) != (module.out_features, module.in_features, down.shape[0]):
                raise AdapterMismatch(f"{name}: {tuple(down.shape)} and {tuple(up.shape)} do not fit its weights")
        self._hooks = [module.register_forward_hook(partial(self._add, name)) for name, module in self._modules.items()]

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network as it was, for as long as the block lasts."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    def remove(self) -> None:
        """Take the additions off the network for good."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def merge(self) -> None:
        """Put the additions into the weights and take the hooks off; the same network without their cost.

        Raises AdapterMismatch where a weight is not floating point: 4-bit weights would lose them to rounding.
        """
        for name, module in self._modules.items():
            if not module.weight.is_floating_point():
                raise AdapterMismatch(f"{name} has weights of {module.weight.dtype}: its additions stay beside it")
        with torch.no_grad():
            for name, module in self._modules.items():
                down, up = self.weights[f"{name}.down"], self.weights[f"{name}.up"]
                module.weight.copy_(merged(module.weight, down, up, self.scale))
        self.remove()

    def _add(self, name: str, module: torch.nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        if not self.enabled:
            return None
        x = inputs[0]
        down, up = (self.weights[f"{name}.{half}"].to(x.dtype) for half in ("down", "up"))
        return out + (self.scale * (x @ down.T) @ up.T).to(out.dtype)


def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """A projection's weight (out, in) with its addition put into it, in the weight's own dtype."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(wide) + (scale * up @ down).to(wide)).to(weight.dtype)


def fresh(network: torch.nn.Module, rank: int, seed: int) -> dict[str, Tensor]:
    """Weights that change nothing yet: `up` is zero, `down` is random with a variance of 1/in."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in _projections(network).items():
        down = torch.randn(rank, module.in_features, generator=generator) / module.in_features**0.5
        weights[f"{name}.down"], weights[f"{name}.up"] = down, torch.zeros(module.out_features, rank)
    return weights


def _projections(network: torch.nn.Module) -> dict[str, Any]:
    """The projections by their names in the network, in its order."""
    found = {name: module for name, module in network.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS}
    if not found:
        raise AdapterMismatch(f"{type(network).__name__} has no projections named {', '.join(PROJECTIONS)}")
    return found
