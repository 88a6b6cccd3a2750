"""The model that is measured: a shape's network with random weights, built on the device part by part."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.speed.shapes import SHAPES, Shape
from engine.attention import sdpa
from engine.models import loader
from engine.models.families.base import kv_shape
from engine.models.loader import Model
from engine.models.tokenizer import Tokenizer
from engine.runtime.runner import Runner

WEIGHTS = ("nf4", "bf16", "float32")
_TEMPLATE = (
    "{% for message in messages %}<|user|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which model is measured."""
    parser.add_argument("--shape", choices=SHAPES, default="", help="a known model's shape with random weights")
    parser.add_argument("--weights", choices=WEIGHTS, help="of a shape; by default nf4 on a GPU, float32 on a CPU")
    parser.add_argument("--model", default="", help="instead of a shape: embedded, a local folder or a hub id")
    parser.add_argument("--models", type=Path, default=Path("build"), help="folder of the embedded model, for --model")


def from_options(options: argparse.Namespace, say: Callable[[str], None]) -> Model:
    """The model that `add_arguments` describes. Raises ModelMissing or ModelUnsupported."""
    if options.model:
        loaded = loader.load(options.model, options.models, say)
        # No answer may end early.
        return replace(loaded, stop_ids=frozenset())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights = options.weights or ("nf4" if device.type == "cuda" else "float32")
    return random_model(SHAPES[options.shape or default_shape(device)], weights, device)


def default_shape(device: torch.device) -> str:
    """What is measured where nothing is said."""
    return "llama-3.1-8b" if device.type == "cuda" else "embedded-135m"


def weights_of(model: Model) -> str:
    """The model's weights in one of the words of WEIGHTS, or its dtype."""
    return "nf4" if getattr(model.network, "is_quantized", False) else short(model.shape.dtype)


def short(dtype: torch.dtype) -> str:
    """The name of a dtype in a table."""
    name = str(dtype).removeprefix("torch.")
    return {"bfloat16": "bf16"}.get(name, name)


def random_model(shape: Shape, weights: str, device: torch.device, spread: float = 0.02, seed: int = 0) -> Model:
    """A Model of the shape; `weights` is one of WEIGHTS, `spread` the standard deviation of the random numbers.

    As in `models.load`, NF4 leaves embeddings and the output layer in bfloat16. Never more than one matrix exists
    unquantized, so that the whole model need not fit in 16 bits.
    """
    sdpa.register()
    config = shape.config()
    dtype = torch.float32 if weights == "float32" else torch.bfloat16
    with torch.device("meta"):
        network: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=sdpa.NAME)
    generator = torch.Generator(device).manual_seed(seed)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=device, dtype=torch.float32).mul_(spread).to(dtype)

    for name, module in list(network.named_modules()):
        if name.endswith("rotary_emb"):
            with torch.device(device):
                _replace(network, name, type(module)(config))
        elif isinstance(module, nn.Linear) and weights == "nf4" and not name.endswith("lm_head"):
            _replace(network, name, _four_bits(module, random(module.weight), random))
        elif module._parameters:
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    # Norms multiply by one.
                    plain = "norm" in name and key == "weight"
                    made = torch.ones(parameter.shape, dtype=dtype, device=device) if plain else random(parameter)
                    module._parameters[key] = nn.Parameter(made, requires_grad=False)
    if config.tie_word_embeddings:
        network.lm_head.weight = network.get_input_embeddings().weight
    network.is_quantized = weights == "nf4"
    network.eval()
    return Model(
        network=network,
        tokenizer=Tokenizer(_tokenizer()),
        shape=kv_shape(config, dtype),
        device=device,
        window=config.max_position_embeddings,
        stop_ids=frozenset(),
        name=shape.name,
        digest=f"random {shape.name} {weights} {seed}",
        why="random weights, to be measured",
    )


def weight_bytes(network: Any) -> int:
    """Bytes of weights that one token reads: all of them, but of the embeddings one row only.

    Quantized weights count with their scales. Tied embeddings are read whole, as the output layer.
    """
    total, seen = 0, set()
    tied = network.config.tie_word_embeddings
    embeddings = None if tied else network.get_input_embeddings().weight
    for parameter in network.parameters():
        if parameter is embeddings or parameter.data_ptr() in seen:
            continue
        seen.add(parameter.data_ptr())
        total += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        for each in (state, getattr(state, "state2", None)):
            total += 0 if each is None else each.absmax.nbytes
    return total


def read_bytes(runner: Runner) -> int:
    """Bytes of weights that one token of a runner reads."""
    return runner.token_bytes or weight_bytes(runner.model.network) - runner.spared_bytes


def _four_bits(linear: nn.Linear, weight: Tensor, random: Any) -> Any:
    """The linear layer in NF4 with double quantization, as bitsandbytes makes it."""
    # Heavy, and there only where it can be used.
    from bitsandbytes import nn as four_bits

    kinds: Any = four_bits
    with torch.device("meta"):
        made = kinds.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
        )
    packed = kinds.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made)
    made.weight = packed.to(weight.device)
    if linear.bias is not None:
        made.bias = nn.Parameter(random(linear.bias), requires_grad=False)
    return made


def _replace(network: Any, name: str, module: Any) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def _tokenizer() -> PreTrainedTokenizerFast:
    """A stand-in: one token per byte, and a template of three marks. What is measured is ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|user|>", "<|end|>", "<|assistant|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", chat_template=_TEMPLATE)
