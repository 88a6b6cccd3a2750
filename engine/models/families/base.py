"""Family: how the modules of a decoder layer are called in one family; and the shape of a config's keys and values."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from engine.core.kv_shape import KVShape, LayerShape, StateShape

WITH_SINKS = ("gpt_oss", "granite_swa")
"""Model types whose query heads all have a learned logit beside those of the tokens."""
ATTENDING = ("full_attention", "sliding_attention", "hybrid")
"""Kinds of layers that attend; a hybrid one also has a state."""
OTHERS = ("linear_attention", "conv", "moe", "mlp")
"""Kinds of layers that do not: those with a state, and those that see no token but their own."""


@dataclass(frozen=True)
class Family:
    """A decoder layer is attention and a gated MLP, each behind an RMSNorm; by default under Llama's names.

    One name in `qkv` or `gate_up`: a single projection gives all of them side by side, in this order.
    """

    network: type[Any]
    """transformers' class of its causal language models."""
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    activation: str = "mlp.act_fn"
    head_norms: tuple[str, ...] = ()
    """The RMSNorms of every query and key head."""
    dropouts: tuple[str, ...] = ()

    @property
    def projections(self) -> tuple[str, ...]:
        """The matrices of a layer."""
        return (*self.qkv, "self_attn.o_proj", *self.gate_up, "mlp.down_proj")

    @property
    def modules(self) -> set[str]:
        """Everything that a layer is made of."""
        parts = ("", "self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
        return {*parts, *self.projections, self.activation, *self.head_norms, *self.dropouts}


def layer_types(config: Any) -> list[str]:
    """What kind of attention each layer of a config has, in transformers' words."""
    every = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
    return getattr(config, "layer_types", None) or [every] * config.num_hidden_layers


def kv_shape(config: Any, dtype: torch.dtype, states: tuple[StateShape, ...] = ()) -> KVShape:
    """The shape of a config's keys and values, beside the states of its network."""
    kinds = layer_types(config)
    attending = tuple(layer for layer, kind in enumerate(kinds) if kind in ATTENDING)
    own = len(kinds) - (getattr(config, "num_kv_shared_layers", None) or 0)
    shapes = []
    by_layer = _by_layer(config)
    for layer in attending:
        kind, each = kinds[layer], by_layer[layer]
        shapes.append(
            LayerShape(
                each.num_key_value_heads,
                getattr(each, "head_dim", None) or each.hidden_size // each.num_attention_heads,
                config.sliding_window if kind == "sliding_attention" else None,
                getattr(config, "attn_logit_softcapping", None),
                config.model_type in WITH_SINKS,
                # Gemma 3n and 4: the last ones share the keys and values of the last layer of their kind before them.
                own - 1 - kinds[:own][::-1].index(kind) if layer >= own else None,
            )
        )
    return KVShape(tuple(shapes), dtype, attending if len(attending) < len(kinds) else (), states)


def _by_layer(config: Any) -> list[Any]:
    """The config of each layer."""
    alike = not getattr(config, "is_heterogeneous", False)
    return [config] * config.num_hidden_layers if alike else [*config.per_layer_config]


def settle_longrope(network: Any) -> None:
    """Give longrope positions (arXiv 2402.13753) the frequencies of long texts whatever the length, as vLLM does.

    transformers changes them once a text is longer than the model first knew; what is kept of it would fit no more.
    """
    rotary: Any = getattr(network.model, "rotary_emb", None)
    if getattr(rotary, "rope_type", "") == "longrope":
        beyond = rotary.config.rope_parameters["original_max_position_embeddings"] + 1
        rotary.inv_freq, _ = ROPE_INIT_FUNCTIONS["longrope"](rotary.config, rotary.inv_freq.device, seq_len=beyond)
        rotary.rope_type = "default"
