"""Student: a network that learns from the same network as it was, its teacher."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import rms_norm

from engine.attention.sdpa import KVContext
from engine.training import lora
from engine.training.errors import AdaptationFailed
from engine.training.lora import LowRank


class Student(Protocol):
    """What learns. `weights` are its leaves, float32; `kind` names the sort of adapter that it becomes."""

    kind: str
    weights: Mapping[str, Tensor]

    def settle(self) -> None:
        """Give the leaves the gradients of all `learned` states since the last call; due before they change."""

    def learned(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) of tokens (T,) with what was learned, with gradients."""

    def taught(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) of tokens (T,) by the teacher, without gradients."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) in float32 of the student's hidden states (T,E)."""

    def taught_logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) in float32 of the teacher's hidden states (T,E)."""


class LowRankStudent:
    """A frozen network whose low-rank additions learn; without them it is the teacher.

    Where weights are floating point, the additions are put into copies of them once a step, in the network's dtype as
    in `LowRank.merge`: beside every projection they would take more time than the network itself. Beside 4-bit weights
    they stay hooks.
    """

    kind = "low-rank"

    def __init__(self, network: Any, rank: int, scale: float, seed: int) -> None:
        network.requires_grad_(False)
        self._network = network
        self._scale = scale
        self.additions = LowRank(network, lora.fresh(network, rank, seed), scale)
        self.weights: Mapping[str, Tensor] = self.additions.weights
        for weight in self.weights.values():
            weight.requires_grad_(True)
        self._merged: dict[str, Tensor] = {}
        """The projections' weights with the additions as they are, by module; leaves themselves. Empty: not made."""
        self._merges = not getattr(network, "is_quantized", False)
        if self._merges:
            self.additions.remove()
            _fuse_norms(network)

    def learned(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) with the additions."""
        return _hidden(self._network, ids, kv_context, self._with_additions() if self._merges else None)

    def settle(self) -> None:
        """Give the additions their gradients, from those of the merged weights, which are then forgotten."""
        for name, merged in self._merged.items():
            if merged.grad is not None:
                grad = self._scale * merged.grad.float()
                down, up = self.weights[f"{name}.down"], self.weights[f"{name}.up"]
                with torch.no_grad():
                    down.grad, up.grad = up.T @ grad, grad @ down.T
        self._merged = {}

    def taught(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) without the additions."""
        with torch.no_grad(), self.additions.off():
            return _hidden(self._network, ids, kv_context)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) of the head that both share."""
        logits: Tensor = self._network.get_output_embeddings()(hidden).float()
        return logits

    taught_logits = logits

    def _with_additions(self) -> dict[str, Tensor]:
        """The merged weights by their names in the network."""
        if not self._merged:
            for name in sorted({name.rsplit(".", 1)[0] for name in self.weights}):
                own = self._network.get_submodule(name).weight
                down, up = (self.weights[f"{name}.{half}"].detach() for half in ("down", "up"))
                self._merged[name] = lora.merged(own, down, up, self._scale).requires_grad_(True)
        return {f"{name}.weight": merged for name, merged in self._merged.items()}


class FullStudent:
    """A float32 copy of a network of which every weight learns; its arithmetic is of the network's own dtype."""

    kind = "all-weights"

    def __init__(self, network: Any) -> None:
        """Raises AdaptationFailed for a network in 4 bits, whose weights cannot move."""
        network.requires_grad_(False)
        if getattr(network, "is_quantized", False):
            raise AdaptationFailed("the weights of this model are in 4 bits: only low-rank additions to it can learn")
        self._teacher = network
        self._network = copy.deepcopy(network).float().requires_grad_(True)
        self.weights: Mapping[str, Tensor] = dict(self._network.named_parameters())

    def settle(self) -> None:
        """Nothing to do: the weights are the leaves."""

    def learned(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) of the copy."""
        with self._narrow(ids.device):
            return _hidden(self._network, ids, kv_context)

    def taught(self, ids: Tensor, kv_context: KVContext) -> Tensor:
        """Last hidden states (T,E) of the network itself."""
        with torch.no_grad():
            return _hidden(self._teacher, ids, kv_context)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) of the copy's head."""
        with self._narrow(hidden.device):
            logits: Tensor = self._network.get_output_embeddings()(hidden)
        return logits.float()

    def taught_logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) of the network's own head."""
        logits: Tensor = self._teacher.get_output_embeddings()(hidden)
        return logits.float()

    def _narrow(self, device: torch.device) -> Any:
        """Matrix products in the network's 16-bit dtype, if it has one."""
        dtype = self._teacher.dtype
        return torch.autocast(device.type, dtype) if dtype in (torch.bfloat16, torch.float16) else nullcontext()


def _hidden(network: Any, ids: Tensor, kv_context: KVContext, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """The states (T,E) in front of the output head, of one sequence (T,) from position 0; `weights` take the place of
    the network's own."""
    positions = torch.arange(len(ids), device=ids.device)[None]
    given = {"input_ids": ids[None], "position_ids": positions, "use_cache": False, "kv_context": kv_context}
    body, prefix = network.base_model, f"{network.base_model_prefix}."
    if weights is None:
        out = body(**given)
    else:
        out = functional_call(body, {name.removeprefix(prefix): weight for name, weight in weights.items()}, (), given)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def _fuse_norms(network: Any) -> None:
    """Let every RMSNorm be one operation instead of seven."""
    for module in network.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_normed, module.weight, module.variance_epsilon)


def _normed(weight: Tensor, eps: float, hidden: Tensor) -> Tensor:
    return rms_norm(hidden, weight.shape, weight, eps)
