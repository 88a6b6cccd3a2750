"""GGUF files: which of them can be read with, and the folder that one is converted into, once."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.core.errors import ModelDamaged, ModelUnsupported
from engine.core.system_errors import as_os_errors
from engine.models import checksums
from engine.models.folder import LOADING, made_once, need_room
from engine.models.tokenizer import read_tokenizer

SUFFIX = ".gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those of which transformers restores every fact; Mistral's models call themselves llama."""
QUANTIZATIONS = (
    *("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K"),
    *("IQ4_NL", "IQ4_XS"),
)
"""Of single weights: a file of Q4_K_M has Q4_K and Q6_K."""
_OTHERS = "Choose the folder or hub id that the file was made from."


def folder_of(path: Path, models: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder below `models` that a file is converted into: bfloat16 safetensors, which any other folder has.

    Raises ModelRefused.
    """
    name = f"{path.stem}-{hashlib.sha256(checksums.key(path.resolve()).encode()).hexdigest()[:8]}"
    return made_once(models / name, partial(_convert, path, models, on_progress))


def _convert(path: Path, models: Path, on_progress: Callable[[str], None], out: Path) -> None:
    on_progress(f"Converting {path.name}, once.")
    weights = _refuse(path, models)
    try:
        convert(path, out)
        if (known := _count(out)) != weights:
            raise ValueError(f"it has {weights} weights, and its family {known}")
    except (OSError, ValueError, LookupError, NotImplementedError, RuntimeError) as error:
        raise ModelDamaged(f"{path.name} could not be converted: {error}", _OTHERS) from error


def convert(path: Path, folder: Path) -> None:
    """Dequantize the weights into bfloat16 safetensors, with the tokenizer and its chat template beside them.

    Raises what transformers does, which leaves out what it does not know and makes up what is missing.
    """
    # transformers before 5.20 always dequantizes; later ones keep the weights packed unless told otherwise.
    packed = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    tokenizer = read_tokenizer(AutoTokenizer.from_pretrained, path.parent, gguf_file=path.name)
    with LOADING:
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _count(folder: Path) -> int:
    """The weights in a folder."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with as_os_errors(), safe_open(path, "pt") as file:
            count += len(file.keys())
    return count


def _refuse(path: Path, models: Path) -> int:
    """The number of weights; raises ModelRefused for a file that would not be read as it is meant, or has no room."""
    # Only who chooses such a file needs it.
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
        architecture = str(fields["general.architecture"])
    except (OSError, ValueError, LookupError) as error:
        raise ModelDamaged(f"{path.name} is no whole GGUF file: {error}", "Copy or download it again.") from error
    kinds = {each.tensor_type.name for each in reader.tensors}
    if architecture not in ARCHITECTURES:
        readable = ", ".join(ARCHITECTURES)
        raise ModelUnsupported(f"{path.name} is a {architecture!r} model; of GGUF, {readable} are read", _OTHERS)
    if foreign := sorted(kinds - {*QUANTIZATIONS}):
        message = f"{path.name} has weights in {', '.join(foreign)}; of GGUF, {', '.join(QUANTIZATIONS)} are read"
        raise ModelUnsupported(message, "Choose a file in one of these, such as Q4_K_M or Q8_0.")
    if int(fields.get("split.count", 1)) > 1:
        raise ModelUnsupported(f"{path.name} is one part of several", "Put them together: llama-gguf-split --merge.")
    scaled = fields.get(f"{architecture}.rope.scaling.type", "none") != "none"
    if scaled or any(each.name.startswith("rope_") for each in reader.tensors):
        raise ModelUnsupported(f"{path.name} scales its rotary positions in a way that is lost from GGUF", _OTHERS)
    need_room(path.name, 2 * sum(int(each.n_elements) for each in reader.tensors), 2, models)
    return len(reader.tensors)
