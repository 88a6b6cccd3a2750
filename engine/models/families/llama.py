"""Llama and the families that are its block with options: biases on the projections, a window, norms of heads."""

from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from engine.models.families.base import Family

LLAMA = Family(LlamaForCausalLM)
MISTRAL = Family(MistralForCausalLM)
QWEN2 = Family(Qwen2ForCausalLM)
QWEN3 = Family(Qwen3ForCausalLM, head_norms=("self_attn.q_norm", "self_attn.k_norm"))
