"""FAMILIES: the families whose decoder layers run as a short loop here, by engine.models.decoder.

The tests of equality with plain transformers take every family from here; those of engine.models.families.general go
transformers' own way.
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

from engine.core.errors import PlanMissing
from engine.core.rope import Angles
from engine.models.families.base import Family
from engine.models.families.general import GENERAL, SEEING

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


def reads(model_type: object, text_type: object = None) -> bool:
    """Whether models of this type are read with; `text_type`: of the text model in one that also sees or hears."""
    known = model_type if text_type is None else text_type
    return (known in FAMILIES or known in GENERAL) and (text_type is None or model_type in SEEING)


def angles_of(network: Any, head_dim: int) -> Angles:
    """The rotary positions of a network's keys. Raises PlanMissing where not all channels of all keys turn alike."""
    if family_of(network) is None:
        raise PlanMissing("how this model's keys turn with their positions is not known: its keys cannot be predicted")
    rotary = network.model.rotary_emb
    if 2 * len(rotary.inv_freq) != head_dim:
        raise PlanMissing("only some channels of this model's keys have positions: its keys cannot be predicted")
    return Angles(rotary.inv_freq.detach().float().cpu(), float(rotary.attention_scaling))


def family_of(network: Any) -> Family | None:
    """The family that a network is exactly of; None where it is of none."""
    return next((each for each in FAMILIES.values() if type(network) is each.network), None)
