"""Phi-3 and Phi-4-mini: fused projections, and positions on a part of a head's channels."""

from transformers import Phi3ForCausalLM

from engine.models.families.base import Family

PHI3 = Family(
    Phi3ForCausalLM,
    qkv=("self_attn.qkv_proj",),
    gate_up=("mlp.gate_up_proj",),
    activation="mlp.activation_fn",
    dropouts=("resid_attn_dropout", "resid_mlp_dropout"),
)
