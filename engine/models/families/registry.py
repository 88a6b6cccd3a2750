"""FAMILIES: which families there are. To add one, write its facts here.

The tests of equality with plain transformers take every family from here.
"""

from collections.abc import Mapping
from typing import Any

from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    Phi3ForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from engine.models.families.base import Family

FAMILIES: Mapping[str, Family] = {
    "llama": Family(LlamaForCausalLM),
    "mistral": Family(MistralForCausalLM),
    # Phi-3 and Phi-4-mini: fused projections, and positions on a part of a head's channels.
    "phi3": Family(
        Phi3ForCausalLM,
        qkv=("self_attn.qkv_proj",),
        gate_up=("mlp.gate_up_proj",),
        activation="mlp.activation_fn",
        dropouts=("resid_attn_dropout", "resid_mlp_dropout"),
    ),
    "qwen2": Family(Qwen2ForCausalLM),
    "qwen3": Family(Qwen3ForCausalLM, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
}
"""By the model type of transformers' configs; all with rotary keys."""


def family_of(network: Any) -> Family | None:
    """The family that a network is exactly of; None where it is of none."""
    return next((each for each in FAMILIES.values() if type(network) is each.network), None)
