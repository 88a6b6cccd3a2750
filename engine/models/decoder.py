"""FlatModel: a loaded network's decoder blocks as a short loop, without the layers of Python that transformers has.

The supported families are one block with options; see engine.models.families.
Letters: Q new tokens, E hidden size, H query heads, G key/value heads, D head size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from engine.attention.sdpa import FusedKVContext, KVContext
from engine.core.rope import HeadNorms, Rotary
from engine.models.families.base import Family
from engine.models.families.config import MOVING_ROPES
from engine.models.families.registry import family_of
from engine.models.loader import Model
from engine.models.ops import Norm, PlainOps, Weight
from engine.models.ops_cpu import select_ops


@dataclass(frozen=True)
class DecoderLayer:
    """The weights of one decoder layer; the norms of query and key heads are there where the family has them."""

    attention_norm: Norm
    qkv: Sequence[Weight]
    head_norms: HeadNorms | None
    out: Sequence[Weight]
    gated_norm: Norm
    gate_up: Sequence[Weight]
    down: Sequence[Weight]


Attend = Callable[[int, DecoderLayer, Tensor], Tensor]
"""(layer, block, fused projection (Q, (H + 2 G) * D)) -> output (H, Q, D)."""


def flatten(model: Model, ops: PlainOps | None = None) -> "FlatModel | None":
    """The model's network as a loop, or None where it is not exactly what is known here.

    `ops`: what it is made of, by default the fastest that PyTorch has for these weights.
    """
    network = model.network
    family = family_of(network)
    if family is None or network.training or not _plain_layers(network, family):
        return None
    projections = [layer.get_submodule(name) for layer in network.model.layers for name in family.projections]
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return None
    return FlatModel(network, family, ops or select_ops([*projections, network.lm_head]))


class FlatModel:
    """Runs a network's weights, which must not change from then on; the network stays usable. `ops.name` says how."""

    def __init__(self, network: Any, family: Family, ops: PlainOps) -> None:
        self.ops = ops
        self._embed = network.model.embed_tokens
        self._rotary = network.model.rotary_emb
        self._positions = network.config.max_position_embeddings
        self._angles: tuple[Tensor, Tensor] | None = None
        """Cosines and sines (P, D / 2) of the network's own rotary positions, whatever their scaling; once wanted."""
        self.blocks = [_block(layer, family, ops) for layer in network.model.layers]
        self.norm = _norm(network.model.norm)
        self.head = ops.take_head(network.lm_head)
        attention = network.model.layers[0].self_attn
        self.head_dim, self.scale = attention.head_dim, attention.scaling
        self._rotated = 2 * len(self._rotary.inv_freq)
        """Channels of a head that have positions: the first."""
        self.heads, self.kv_heads = network.config.num_attention_heads, network.config.num_key_value_heads

    @property
    def turns_whole_heads(self) -> bool:
        """Whether rotary positions turn all channels of a head, by the same angles in texts of any length."""
        return self._rotary.rope_type not in MOVING_ROPES and self._rotated == self.head_dim

    def entered(self, token: int, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a token begins with: its embedding (E,), and cosines and sines (D / 2,) of its position, to be changed
        at will."""
        x = self._embed(torch.tensor([token]))
        cos, sin = self._rotary(x, torch.tensor([[position]]))
        half = self._rotated // 2
        return x[0].clone(), cos[0, 0, :half].clone(), sin[0, 0, :half].clone()

    def forward(self, ids: Tensor, positions: Tensor, kv_context: KVContext, last: int | Tensor) -> Tensor:
        """Logits (last, V) of the last of the tokens `ids` (Q,) at `positions` (Q,), or of those at places `last` (R,).

        A memory that can take a fused projection as it is gets it.
        """
        ops = self.ops
        x: Tensor = self._embed(ids)
        attend: Attend
        if self.turns_whole_heads and isinstance(kv_context, FusedKVContext):
            attend = self._fused(kv_context, x, positions)
        else:
            attend = self._plain(kv_context, x, positions)
        for layer, block in enumerate(self.blocks):
            seen = attend(layer, block, ops.linear(x, block.qkv, norm=block.attention_norm))
            x = ops.linear(seen.transpose(0, 1).reshape(len(x), -1), block.out, residual=x)
            opened = self._gated(x, block)
            x = ops.linear(opened, block.down, residual=x)
        x = x[-last:] if isinstance(last, int) else x.index_select(0, last)
        return ops.logits(x, self.head, self.norm)

    def _gated(self, x: Tensor, block: DecoderLayer) -> Tensor:
        """silu(gate x) * (up x), from two projections or from one."""
        if len(block.gate_up) == 2:
            return self.ops.gated(x, *block.gate_up, norm=block.gated_norm)
        gate, up = self.ops.linear(x, block.gate_up, norm=block.gated_norm).chunk(2, -1)
        return nn.functional.silu(gate) * up

    def _plain(self, kv_context: KVContext, x: Tensor, positions: Tensor) -> Attend:
        """Norms of heads and rotary positions one by one, then attention."""
        ops, dim, heads, turned = self.ops, self.head_dim, self.heads, self.heads + self.kv_heads
        cos, sin = self._rotary(x, positions[None])
        sin = torch.cat([-sin[..., : self._rotated // 2], sin[..., self._rotated // 2 :]], -1)
        cos, sin = cos[0][:, None], sin[0][:, None]

        def attend(layer: int, block: DecoderLayer, rows: Tensor) -> Tensor:
            qkv = rows.view(len(rows), -1, dim)
            asking = qkv[:, :turned]
            if norms := block.head_norms:
                query, keys = (norms.query, norms.epsilon), (norms.keys, norms.epsilon)
                asking = torch.cat((ops.norm(qkv[:, :heads], query), ops.norm(qkv[:, heads:turned], keys)), 1)
            plain = asking[..., self._rotated :]
            asking = ops.rope(asking[..., : self._rotated], cos, sin)
            asking = (torch.cat([asking, plain], -1) if plain.shape[-1] else asking).transpose(0, 1)
            return kv_context.attend(layer, asking[:heads], asking[heads:], qkv[:, turned:].transpose(0, 1), self.scale)

        return attend

    def _fused(self, kv_context: FusedKVContext, x: Tensor, positions: Tensor) -> Attend:
        """All of that by the memory, which reads angles in a table of all positions."""
        if self._angles is None or self._angles[0].dtype != x.dtype:
            everywhere = torch.arange(self._positions, device=x.device)
            cos, sin = self._rotary(x, everywhere[None])
            # Both halves of a head turn by the same angles.
            self._angles = cos[0, :, : self.head_dim // 2].clone(), sin[0, :, : self.head_dim // 2].clone()
        rotary = Rotary(*self._angles, positions)
        return lambda layer, block, rows: kv_context.attend_fused(layer, rows, rotary, block.head_norms, self.scale)


def _block(layer: Any, family: Family, ops: PlainOps) -> DecoderLayer:
    return DecoderLayer(
        attention_norm=_norm(layer.input_layernorm),
        qkv=ops.take(*map(layer.get_submodule, family.qkv)),
        head_norms=_head_norms(layer, family),
        out=ops.take(layer.self_attn.o_proj),
        gated_norm=_norm(layer.post_attention_layernorm),
        gate_up=[ops.take(layer.get_submodule(name))[0] for name in family.gate_up],
        down=ops.take(layer.mlp.down_proj),
    )


def _norm(module: Any) -> Norm:
    return module.weight, module.variance_epsilon


def _head_norms(layer: Any, family: Family) -> HeadNorms | None:
    if not family.head_norms:
        return None
    query, keys = map(layer.get_submodule, family.head_norms)
    assert query.variance_epsilon == keys.variance_epsilon
    return HeadNorms(query.weight, keys.weight, query.variance_epsilon)


def _plain_layers(network: Any, family: Family) -> bool:
    """Whether every layer is made of the family's parts, and nothing else."""
    return all(
        {name for name, _ in layer.named_modules()} == family.modules
        and type(layer.get_submodule(family.activation)) is type(ACT2FN["silu"])
        for layer in network.model.layers
    )
