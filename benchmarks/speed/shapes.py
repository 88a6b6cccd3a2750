"""The shapes that are measured: configurations of known models, filled with random weights, so nothing is fetched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig

_OPTIONS = (
    "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "rope_parameters",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A family and the options of its configuration."""

    name: str
    family: str
    options: Mapping[str, Any]

    def config(self) -> Any:
        """The configuration as transformers takes it."""
        return AutoConfig.for_model(self.family, bos_token_id=0, eos_token_id=1, **self.options)

    def small(self) -> "Shape":
        """A model of the same family, head size and query heads per KV head that a check runs in moments."""
        groups = self.options["num_attention_heads"] // self.options["num_key_value_heads"]
        less = {
            "vocab_size": 512,
            "hidden_size": 2 * groups * 64,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 2 * groups,
            "num_key_value_heads": 2,
        }
        return Shape(f"{self.name}-small", self.family, {**self.options, **less})


def shape_of(name: str, config: Any) -> Shape:
    """The shape of a model that is loaded."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    options = {option: getattr(config, option) for option in _OPTIONS}
    return Shape(name, config.model_type, {**options, "head_dim": head_dim})


def _shape(
    name: str, family: str, layers: int, hidden: int, inner: int, heads: tuple[int, int, int], **rest: Any
) -> Shape:
    """`heads`: query heads, KV heads, head size."""
    options = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": heads[2],
    }
    return Shape(name, family, {**options, **rest})


_LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_QWEN = {"vocab_size": 151_936, "rms_norm_eps": 1e-6, "max_position_embeddings": 262_144}
"""The window of Qwen3-4B-2507; others were trained for a shorter one, which costs and saves nothing."""

SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        _shape(
            "llama-3.1-8b", "llama", 32, 4096, 14_336, (32, 8, 128), vocab_size=128_256, rms_norm_eps=1e-5,
            max_position_embeddings=131_072, tie_word_embeddings=False, rope_parameters=_LLAMA_ROPE,
        ),
        _shape(
            "qwen3-8b", "qwen3", 36, 4096, 12_288, (32, 8, 128), tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **_QWEN,
        ),
        _shape(
            "qwen3-14b", "qwen3", 40, 5120, 17_408, (40, 8, 128), tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **_QWEN,
        ),
        _shape(
            "qwen3-4b", "qwen3", 36, 2560, 9728, (32, 8, 128), tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 5e6}, **_QWEN,
        ),
        _shape(
            "qwen2.5-0.5b", "qwen2", 24, 896, 4864, (14, 2, 64), vocab_size=151_936, rms_norm_eps=1e-6,
            max_position_embeddings=32_768, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        _shape(
            "embedded-135m", "llama", 30, 576, 1536, (9, 3, 64), vocab_size=49_152, rms_norm_eps=1e-5,
            max_position_embeddings=8192, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        ),
    )
}  # fmt: skip

WHOLE_APP: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        *SHAPES.values(),
        # As far as their configurations are public; what is not given is the default of transformers.
        _shape(
            "gemma-4-e4b", "gemma4_text", 42, 2560, 10_240, (8, 2, 256), num_kv_shared_layers=18, sliding_window=512,
            final_logit_softcapping=30.0, pad_token_id=0,
        ),
        _shape(
            "qwen3.5-4b", "qwen3_5_text", 32, 2560, 9216, (16, 4, 256), max_position_embeddings=262_144,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
        ),
        # Half of its 24 layers: a token's time is about half, too.
        _shape(
            "gpt-oss-20b-half", "gpt_oss", 12, 2880, 2880, (64, 8, 64), num_local_experts=32, num_experts_per_tok=4,
        ),
    )
}  # fmt: skip
"""Those of families that the engine's own bench does not build, too."""
