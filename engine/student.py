"""Student: a network that learns from the same network as it was, its teacher."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from engine import low_rank
from engine.attention import Memory
from engine.errors import AdaptationFailed
from engine.low_rank import LowRank


class Student(Protocol):
    """What learns. `weights` are its leaves, float32; `kind` names the sort of adapter that it becomes."""

    kind: str
    weights: Mapping[str, Tensor]

    def learned(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E) of tokens (T,) with what was learned, with gradients."""

    def taught(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E) of tokens (T,) by the teacher, without gradients."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) in float32 of the student's hidden states (T,E)."""

    def taught_logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) in float32 of the teacher's hidden states (T,E)."""


class LowRankStudent:
    """A frozen network whose low-rank additions learn; with them off it is the teacher."""

    kind = "low-rank"

    def __init__(self, network: Any, rank: int, scale: float, seed: int) -> None:
        network.requires_grad_(False)
        self._network = network
        self.additions = LowRank(network, low_rank.fresh(network, rank, seed), scale)
        self.weights: Mapping[str, Tensor] = self.additions.weights
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def learned(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E), the additions on."""
        return _hidden(self._network, ids, memory)

    def taught(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E), the additions off."""
        with torch.no_grad(), self.additions.off():
            return _hidden(self._network, ids, memory)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (T,V) of the head that both share."""
        logits: Tensor = self._network.get_output_embeddings()(hidden).float()
        return logits

    taught_logits = logits


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

    def learned(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E) of the copy."""
        with self._narrow(ids.device):
            return _hidden(self._network, ids, memory)

    def taught(self, ids: Tensor, memory: Memory) -> Tensor:
        """Last hidden states (T,E) of the network itself."""
        with torch.no_grad():
            return _hidden(self._teacher, ids, memory)

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


def _hidden(network: Any, ids: Tensor, memory: Memory) -> Tensor:
    """The states (T,E) in front of the output head, of one sequence (T,) from position 0."""
    positions = torch.arange(len(ids), device=ids.device)[None]
    out = network.base_model(input_ids=ids[None], position_ids=positions, use_cache=False, memory=memory)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden
