"""GENERAL: families that transformers runs by itself, over attention of ours, each with what is special about it.

To add one, write a line here, and a tiny model of it in tests/tiny_families.py: tests/engine/test_families.py then says
whether it is equal to plain transformers. What one asks of attention beyond the facts of
engine.models.families.base.kv_shape is refused when it is first run.
"""

from collections.abc import Mapping

GENERAL: Mapping[str, str] = {
    "afmoe": "a mixture of experts; windows; layers without positions; gated attention",
    "apertus": "norms of heads",
    "arcee": "an MLP without gate",
    "bamba": "Mamba-2 states; positions on half of a head's channels",
    "cohere": "attention beside the MLP; scaled logits",
    "cohere2": "windows; layers without positions; scaled logits",
    "cwm": "windows",
    "dots1": "a mixture of experts",
    "ernie4_5": "interleaved positions",
    "ernie4_5_moe": "a mixture of experts",
    "exaone4": "windows; layers without positions",
    "falcon_h1": "Mamba-2 states beside attention in every layer; multipliers of almost everything",
    "flex_olmo": "a mixture of experts",
    "gemma": "scaled embeddings",
    "gemma2": "windows; soft caps on attention and logits",
    "gemma3_text": "windows; two rotary bases",
    "gemma3n_text": "windows; layers that share the keys and values of another",
    "gemma4_text": "windows; head sizes by layer; layers that share the keys and values of another; values from keys",
    "gemma4_unified_text": "as gemma4_text",
    "glm": "positions on half of a head's channels",
    "glm4": "positions on half of a head's channels; norms before and after",
    "glm4_moe": "a mixture of experts; positions on half of a head's channels",
    "gpt_oss": "a mixture of experts; windows; learned attention sinks",
    "granite": "multipliers of embeddings, attention, residuals and logits",
    "granite_swa": "as granite; windows; learned attention sinks",
    "granitemoe": "a mixture of experts; multipliers as of granite",
    "granitemoeshared": "a mixture of experts; multipliers as of granite",
    "granitemoehybrid": "as granite or granitemoe; Mamba-2 states where the config says so; layers without positions",
    "helium": "interleaved positions",
    "hunyuan_v1_dense": "norms of heads behind their positions",
    "lfm2": "short convolutions",
    "lfm2_moe": "a mixture of experts; short convolutions",
    "minimax_m2": "a mixture of experts; positions on a part of a head's channels",
    "ministral": "windows",
    "ministral3": "queries scaled by their position",
    "mixtral": "a mixture of experts",
    "nemotron_h": "a mixture of experts where the config says so; Mamba-2 states; no positions",
    "olmo": "norms without weights",
    "olmo2": "norms behind attention and MLP",
    "olmo3": "windows; norms behind attention and MLP",
    "olmo_hybrid": "gated delta rule states",
    "olmoe": "a mixture of experts",
    "qwen2_moe": "a mixture of experts",
    "qwen3_5_moe_text": "as qwen3_5_text; a mixture of experts",
    "qwen3_5_text": "gated delta rule states; gated attention; positions on a quarter of a head's channels",
    "qwen3_moe": "a mixture of experts; norms of heads",
    "qwen3_next": "a mixture of experts; otherwise as qwen3_5_text",
    "seed_oss": "biases where the config says so",
    "smollm3": "layers without positions",
    "starcoder2": "an MLP without gate; biases",
    "vaultgemma": "windows; soft caps",
}
"""By the model type of transformers' configs, of which each layer attends everything before it, or a window of that."""

SEEING = ("gemma3", "gemma3n", "gemma4", "gemma4_unified", "lfm2_vl", "llava", "mistral3", "qwen3_5", "qwen3_5_moe")
"""Model types that also see or hear, of which the text model is read with."""
