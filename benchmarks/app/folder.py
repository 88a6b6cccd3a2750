"""A model folder of random weights in the shape of a known model, as `--model FOLDER` takes it."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.speed.shapes import Shape

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def model_folder(shape: Shape, folder: Path, tokenizer: Path) -> Path:
    """The folder, made unless it is there; its tokenizer is that of another folder.

    A tokenizer with fewer tokens than the shape has is as good: no weight of such a model means anything.
    """
    if (folder / "config.json").exists():
        return folder
    on_gpu = torch.cuda.is_available()
    with torch.device("cuda" if on_gpu else "cpu"):
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.bfloat16)
    made = folder.with_name(f".{folder.name}.partial")
    # Parts as those of models on the hub, which are hashed at once.
    network.save_pretrained(made, max_shard_size="5GB")
    for name in _TOKENIZER:
        shutil.copy(tokenizer / name, made)
    made.rename(folder)
    del network
    if on_gpu:
        torch.cuda.empty_cache()
    return folder
