"""A network as a GGUF file, for a peer to read: linear layers in 4 bits, embeddings in 8, and the same numbers kept.

What the file holds is put back into the network, so that both sides multiply by the same weights but for bfloat16's
rounding. There is no vocabulary to speak of: prompts are ids.
"""

from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize

_FAMILIES = ("llama", "qwen2")
_LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_TURNED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
"""Projections whose rows llama.cpp pairs as neighbours, and transformers as halves of a head; in the family llama."""


def add_shape(writer: GGUFWriter, config: Any, head_dim: int) -> None:
    """The facts that every family of decoders has."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim)


def write(network: Any, path: Path, linears: str) -> None:
    """Write the file, linear layers in one of GGUF's formats of 4 bits.

    Raises ValueError for a family or a head that is not known here.
    """
    config = network.config
    family = config.model_type
    if family not in _FAMILIES or not config.tie_word_embeddings:
        raise ValueError(f"{family} networks are not written as GGUF here: only {', '.join(_FAMILIES)} with tied heads")
    writer = GGUFWriter(path, family)
    head_dim = config.hidden_size // config.num_attention_heads
    add_shape(writer, config, head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>" for index in range(config.vocab_size)])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types([TokenType.NORMAL] * config.vocab_size)
    _add(writer, "token_embd.weight", network.model.embed_tokens.weight, GGMLQuantizationType.Q8_0)
    for index, layer in enumerate(network.model.layers):
        for name, theirs in _LINEARS.items():
            linear = layer.get_submodule(name)
            heads = getattr(config, _TURNED[theirs]) if family == "llama" and theirs in _TURNED else 0
            _add(writer, f"blk.{index}.{theirs}.weight", linear.weight, GGMLQuantizationType[linears], heads)
            if linear.bias is not None:
                _add(writer, f"blk.{index}.{theirs}.bias", linear.bias)
        for name, theirs in _NORMS.items():
            _add(writer, f"blk.{index}.{theirs}.weight", layer.get_submodule(name).weight)
    _add(writer, "output_norm.weight", network.model.norm.weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(
    writer: GGUFWriter, name: str, parameter: torch.Tensor, kind: GGMLQuantizationType | None = None, heads: int = 0
) -> None:
    """One tensor; a quantized one is put back into `parameter`, rounded to bfloat16."""
    wide = parameter.detach().float()
    if kind is None:
        writer.add_tensor(name, wide.numpy())
        return
    packed = quantize(wide.numpy(), kind)
    parameter.data.copy_(torch.from_numpy(dequantize(packed, kind)).bfloat16())
    if heads:
        # Rows are quantized one by one, so they may change places as they are.
        packed = packed.reshape(heads, 2, -1, packed.shape[-1]).swapaxes(1, 2).reshape(packed.shape)
    writer.add_tensor(name, packed, raw_dtype=kind)
