"""Tiny random models and their tokenizer: real transformers classes, small enough for a test to run in milliseconds."""

from collections.abc import Callable
from functools import partial

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llama(layers: int = 4) -> PreTrainedModel:
    """Llama: four layers, four heads over two KV heads of 16 dimensions, 512 tokens, float32."""
    return _build(LlamaForCausalLM, LlamaConfig, layers)


def qwen2() -> PreTrainedModel:
    """Qwen2 of the same size: biases on query, key and value."""
    return _build(Qwen2ForCausalLM, Qwen2Config)


def qwen3(**facts: object) -> PreTrainedModel:
    """Qwen3 of the same size: norms on query and key."""
    return _build(Qwen3ForCausalLM, partial(Qwen3Config, **facts))


def mistral(window: int | None = None) -> PreTrainedModel:
    """Mistral of the same size, without a sliding window or with one."""
    return _build(MistralForCausalLM, partial(MistralConfig, sliding_window=window))


def phi3(window: int | None = None, **facts: object) -> PreTrainedModel:
    """Phi-3 of the same size: fused projections, and positions on half of a head's channels."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    return _build(Phi3ForCausalLM, partial(Phi3Config, **{"sliding_window": window, "rope_parameters": rope, **facts}))


def windowed(window: int) -> dict[str, Callable[[], PreTrainedModel]]:
    """Models of the same size with a sliding window: in every layer, or in every other one."""
    kinds = ["sliding_attention", "full_attention"] * 2
    mixed = {"layer_types": kinds, "use_sliding_window": True, "sliding_window": window}
    return {
        "mistral": partial(mistral, window),
        "phi3": partial(phi3, window),
        "qwen3, every other layer": partial(qwen3, **mixed),
    }


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte (ids 0-255), three special tokens (256-258), and a ChatML template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )


def _build(model_class: type[PreTrainedModel], config_class: Callable[..., object], layers: int = 4) -> PreTrainedModel:
    """A random model of one family, the same in every run."""
    config = config_class(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        # Wider than the usual 0.02, so that the likeliest token wins by more than rounding.
        initializer_range=0.2,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=258,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config).eval().requires_grad_(False)
