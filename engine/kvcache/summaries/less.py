"""A state of low rank that stands for all tokens that did not stay (LESS, arXiv 2402.09398).

For each evicted pair of a KV head H += psi(k)^T v and z += psi(k), and a query sees beside the kept tokens
    (sum_kept exp(q k / sqrt(d)) v + phi(q) H) / (sum_kept exp(q k / sqrt(d)) + phi(q) z),
so that phi(q) H / phi(q) z and log(phi(q) z) are an output and a log-sum-exp to merge. With g = gelu(gelu(k K1) K2),
    phi(q) = |gelu(gelu(q Q1) Q2)|,  psi(k) = | |s1| g + s2 (g W) |.
Defaults: rank 8, 512 hidden units, kept are heavy hitters (H2O) and recent tokens, half each; trained layer by layer,
which `python -m engine.training.less_fit` does. Here query heads that share a KV head share its state, each by its own
phi, and what is kept is the recipe's: heavy hitters, and its exact tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from engine.attention.sdpa import SegmentAttention
from engine.core.kv_shape import KVShape
from engine.kvcache import tensor_file
from engine.kvcache.exact import Pod
from engine.kvcache.recipe import Selection
from engine.kvcache.segment import Segment
from engine.kvcache.summaries.base import Field, Learned
from engine.models.loader import Model

RANK = 8
HIDDEN = 512
TOOL = "python -m engine.training.less_fit"
_LEAST = 1e-30


@dataclass(frozen=True, kw_only=True)
class State(Segment):
    """Holds no slots: `hidden` (G, R, D) and `total` (G, R) are sums over many; `query_maps` those of phi."""

    hidden: Tensor
    total: Tensor
    query_maps: tuple[Tensor, Tensor]

    def attend(
        self,
        attention: SegmentAttention,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
    ) -> tuple[Tensor, Tensor]:
        """See Segment.attend."""
        out, weight = looked_up(phi(query, *self.query_maps), self.hidden, self.total)
        return out.to(query.dtype), weight.log()

    def logits(
        self,
        head: int,
        query: Tensor,
        queries: Mapping[int, Tensor],
        scale: float,
        position: int,
        softcap: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Of no token: what was evicted cannot be told apart."""
        return torch.zeros(query.shape[1], 0, dtype=torch.float32, device=query.device), self.places(head)


def phi(query: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """What of each query (H, Q, D) meets a state: (H, Q, R), by maps (H, D, N) and (H, N, R)."""
    return gelu(gelu(query.float() @ first.float()) @ second.float()).abs()


def psi(keys: Tensor, first: Tensor, second: Tensor, inner: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """What of each key (G, K, D) goes into a state: (G, K, R), by maps (G, D, N), (G, N, R), (G, R, R) and twice
    (G, R)."""
    g = gelu(gelu(keys.float() @ first.float()) @ second.float())
    return (one.float().abs()[:, None] * g + two.float()[:, None] * (g @ inner.float())).abs()


def looked_up(seen: Tensor, hidden: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Output (H, Q, D) and its weight (H, Q) of phi's (H, Q, R) over states (G, R, D) and (G, R)."""
    share = len(seen) // len(hidden)
    weight = (seen * total.float().repeat_interleave(share, 0)[:, None]).sum(-1)
    return seen @ hidden.float().repeat_interleave(share, 0) / weight.clamp_min(_LEAST)[..., None], weight


def fields(shape: KVShape, selection: Selection, distant: int) -> Sequence[Field]:
    """H and z of a layer."""
    return (torch.float32, (shape.kv_heads, RANK, shape.head_dim)), (torch.float32, (shape.kv_heads, RANK))


def make(
    exact: Pod, far: range, kept: Tensor, selection: Selection, learned: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """A layer after the other."""
    for layer, evicted in enumerate(~kept):
        keys, values = (each[layer, :, far.start : far.stop] for each in (exact.keys, exact.values))
        into = psi(keys, *(learned[name][layer] for name in KEY_MAPS)) * evicted[..., None]
        yield into.mT @ values.float(), into.sum(1)


def segment(layer: int, parts: Sequence[Tensor], learned: Mapping[str, Tensor]) -> Segment:
    """See State."""
    hidden, total = parts
    first, second = (learned[name][layer] for name in QUERY_MAPS)
    none = hidden[:, :0].to(first.dtype)
    places = torch.zeros(0, dtype=torch.long, device=hidden.device)
    return State(none, none, places, hidden=hidden, total=total, query_maps=(first, second))


QUERY_MAPS = ("queries 1", "queries 2")
KEY_MAPS = ("keys 1", "keys 2", "inner", "scale 1", "scale 2")


def find(model: Model, *folders: Path) -> Learned | None:
    """What a model was trained with, from the first folder that has it. Raises PlanMissing for a file without it."""

    def made(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Learned:
        return Learned({name: tensors[name] for name in (*QUERY_MAPS, *KEY_MAPS)})

    return tensor_file.find(model, "less", folders, made, "states of low rank", TOOL)


def save(folder: Path, model: Model, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write the file that `find` reads, in half precision; returns its path."""
    return tensor_file.write(folder, model, "less", {name: each.half() for name, each in tensors.items()}, facts)
