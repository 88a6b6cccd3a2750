"""Tiny random models of every family that goes transformers' own way: four layers, two of each kind.

Six heads over three KV heads of 16 channels, in float32.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

WINDOW = 24
_SIZE = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW}
_ALL_FULL = {"layer_types": ["full_attention"] * 4}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL = {"num_local_experts": 4, **_EXPERTS}
_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
_GRANITE = {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.7,
    "logits_scaling": 0.5,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 3,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    # Of .2 plain transformers itself is 5e-4 beside its own logits in float64, and in chunks.
    "initializer_range": 0.1,
}
_ROUTED_LINEAR = {**_LINEAR, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32}
_MAMBA = {
    "mamba_n_heads": 3,
    "mamba_d_head": 64,
    "mamba_n_groups": 1,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
_CONV = {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3}
_BY_LAYER = {"global_head_dim": 32, "num_global_key_value_heads": 2, "vocab_size_per_layer_input": 512}

_FACTS: Mapping[str, Mapping[str, Any]] = {
    "afmoe": {**_MIXED, **_EXPERTS, "num_experts": 4, "num_dense_layers": 1},
    "bamba": {**_MAMBA, "attn_layer_indices": [1, 3]},
    "cohere2": _MIXED,
    "cwm": _MIXED,
    "dots1": {**_ROUTED, **_EXPERTS, **_ALL_FULL},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32},
    "exaone4": _MIXED,
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 192, "key_multiplier": 0.5, "ssm_out_multiplier": 0.7},
    "flex_olmo": {"num_experts": 4, "num_experts_per_tok": 2},
    "gemma2": {**_MIXED, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 24},
    "gemma3_text": {**_MIXED, "query_pre_attn_scalar": 24},
    "gemma3n_text": {
        "num_hidden_layers": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 4,
        "sliding_window": WINDOW,
        "num_kv_shared_layers": 4,
        "vocab_size_per_layer_input": 512,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "intermediate_size": [128] * 8,
        "activation_sparsity_pattern": [0.5] * 2 + [0.0] * 6,
        "altup_num_inputs": 2,
    },
    "gemma4_text": {**_MIXED, **_BY_LAYER, "hidden_size_per_layer_input": 8},
    "gemma4_unified_text": {**_MIXED, **_BY_LAYER},
    "glm4_moe": {**_ROUTED, **_EXPERTS},
    "gpt_oss": {**_MIXED, **_LOCAL},
    "granite": _GRANITE,
    "granite_swa": {**_GRANITE, **_MIXED},
    "granitemoe": {**_GRANITE, **_LOCAL},
    "granitemoeshared": {**_GRANITE, **_LOCAL, "shared_intermediate_size": 32},
    "granitemoehybrid": {
        **_GRANITE,
        **_LOCAL,
        **_MAMBA,
        "shared_intermediate_size": 128,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "lfm2": {**_CONV, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {**_CONV, **_EXPERTS, "num_experts": 4, "num_dense_layers": 1},
    "minimax_m2": {**_LOCAL, "rotary_dim": 8},
    "ministral": _MIXED,
    "ministral3": {
        "sliding_window": None,
        # Queries are scaled from position 32 on.
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 16.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 32,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "mixtral": {**_LOCAL, "sliding_window": WINDOW},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "full_attention", "mlp", "full_attention", "linear_attention", "moe"],
        "num_hidden_layers": 6,
        "mamba_num_heads": 3,
        "mamba_head_dim": 64,
        "ssm_state_size": 16,
        "n_groups": 1,
        "chunk_size": 16,
        "expand": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
    },
    "olmo3": _MIXED,
    "olmo_hybrid": _LINEAR,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, "shared_expert_intermediate_size": 32, **_EXPERTS},
    "qwen3_5_moe_text": _ROUTED_LINEAR,
    "qwen3_5_text": _LINEAR,
    "qwen3_moe": {"num_experts": 4, **_EXPERTS},
    "qwen3_next": _ROUTED_LINEAR,
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
    "starcoder2": {"sliding_window": WINDOW},
    "vaultgemma": {**_MIXED, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 24},
}
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gemma2, all layers alike": ("gemma2", {**_FACTS["gemma2"], **_ALL_FULL}),
    "gemma4_text, keys and values of others": (
        "gemma4_text",
        {
            **_FACTS["gemma4_text"],
            "num_hidden_layers": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 4,
            "num_kv_shared_layers": 4,
        },
    ),
    "gemma4_text, values from keys": ("gemma4_text", {**_MIXED, **_BY_LAYER, "attention_k_eq_v": True}),
    "granitemoehybrid, no state": (
        "granitemoehybrid",
        {**_FACTS["granitemoehybrid"], "layer_types": ["attention"] * 4},
    ),
    "ministral3, windows": ("ministral3", {**_FACTS["ministral3"], "sliding_window": WINDOW}),
    "qwen3_moe, windows": ("qwen3_moe", {**_FACTS["qwen3_moe"], "sliding_window": WINDOW, "use_sliding_window": True}),
}
"""Other configs of a family: its model type, and the facts."""


def config(name: str, **facts: Any) -> Any:
    """The config of a model type or a variant."""
    model_type, known = VARIANTS.get(name, (name, _FACTS.get(name, {})))
    return AutoConfig.for_model(model_type, **{**_SIZE, **known, **facts})


def build(name: str) -> PreTrainedModel:
    """A random model of it, the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = AutoModelForCausalLM.from_config(config(name)).eval().requires_grad_(False)
        for name, weight in network.named_parameters():
            if name.endswith("sinks"):
                torch.nn.init.normal_(weight)
    return network
