"""The outline of a model: everything but its weights, for a program that has the model run elsewhere."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from engine.attention import sdpa
from engine.models.families.base import kv_shape
from engine.models.families.states import found_states
from engine.models.loader import Model
from engine.models.tokenizer import Tokenizer

_FACTS = ("window", "name", "digest", "why", "better")


def outline(model: Model) -> dict[str, Any]:
    """What `from_outline` takes, as plain values that JSON can hold: some megabytes, most of them the tokenizer's."""
    with TemporaryDirectory() as folder:
        model.network.config.save_pretrained(folder)
        model.tokenizer.save(Path(folder))
        files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}
    facts = {name: getattr(model, name) for name in _FACTS}
    return {**facts, "files": files, "dtype": str(model.shape.dtype), "stop_ids": sorted(model.stop_ids)}


def from_outline(facts: dict[str, Any]) -> Model:
    """A model whose weights hold nothing, on the processor: it knows its tokens, its shape and who it is."""
    sdpa.register()
    with TemporaryDirectory() as folder:
        for name, text in facts["files"].items():
            Path(folder, Path(name).name).write_text(text, encoding="utf-8")
        config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    # How the weights are packed is the matter of whoever has some.
    config.__dict__.pop("quantization_config", None)
    dtype = getattr(torch, facts["dtype"].removeprefix("torch."))
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=sdpa.NAME)
    return Model(
        network=network.eval(),
        tokenizer=Tokenizer(tokenizer),
        shape=kv_shape(config, dtype, found_states(network)),
        device=torch.device("cpu"),
        stop_ids=frozenset(facts["stop_ids"]),
        **{name: facts[name] for name in _FACTS},
    )
