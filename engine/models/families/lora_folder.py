"""Folders with a LoRA adapter (arXiv 2106.09685): its base, and the folder that both are merged into, once, by peft."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.core.errors import ModelDamaged, ModelMissing, ModelUnsupported
from engine.models import checksums, hub
from engine.models.download import said
from engine.models.families.config import TEXT_WEIGHTS, config_of
from engine.models.folder import LOADING, MERGE, made_once, need_room
from engine.models.tokenizer import read_tokenizer

CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether it holds an adapter alone, as peft writes one."""
    return (folder / CONFIG).is_file() and (folder / _WEIGHTS).is_file() and not (folder / "config.json").exists()


def folder_of(path: Path, models: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder below `models` that an adapter is merged with its base into. Raises ModelRefused."""
    if not find_spec("peft"):
        message = f"{path.name} holds a LoRA adapter, and peft, which merges it into its base, is not installed"
        raise ModelUnsupported(message, f"Install it: pip install 'docpod[lora]'. Or: {MERGE}")
    base = _base(path, models, on_progress)
    files = [path / CONFIG, path / _WEIGHTS, *sorted(base.glob(f"*{hub.WEIGHTS}"))]
    key = hashlib.sha256(" ".join(checksums.key(each.resolve()) for each in files).encode()).hexdigest()[:8]
    return made_once(models / f"{path.name}-{key}", partial(_merge, path, base, models, on_progress))


def _base(path: Path, models: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder of the model that an adapter was made for, fetched where it is one of the hub's."""
    try:
        facts = json.loads((path / CONFIG).read_text())
        choice, kind = str(facts["base_model_name_or_path"]), facts["peft_type"]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ModelDamaged(f"{path.name} has a {CONFIG} that names no base: {error}") from error
    if kind != "LORA":
        raise ModelUnsupported(f"{path.name} is an adapter of the kind {kind}; LoRA adapters are read with", MERGE)
    folder = Path(choice).expanduser()
    for each in (folder, path / folder):
        if each.is_dir():
            return each.resolve()
    if not hub.is_id(choice):
        hint = f"Write the folder it is in into {CONFIG}, as base_model_name_or_path."
        raise ModelMissing(f"{path.name} was made for {choice}, which is not here", hint)
    return hub.fetch(choice, models, said(on_progress, choice))


def _merge(path: Path, base: Path, models: Path, on_progress: Callable[[str], None], out: Path) -> None:
    """Write the merged weights, in the dtype of the base's, and a tokenizer: the adapter's if it has one."""
    # Only who chooses such a folder needs it.
    from peft import PeftConfig, get_peft_model

    on_progress(f"Merging {path.name} into {base.name}, once.")
    need_room(path.name, hub.weight_bytes(base), 1, models)
    config = config_of(base, base.name)
    try:
        with LOADING:
            network: Any = AutoModelForCausalLM.from_pretrained(
                base, config=config, dtype="auto", key_mapping=TEXT_WEIGHTS
            )
        facts = PeftConfig.from_pretrained(str(path))
        facts.base_model_name_or_path = str(base)
        adapted = get_peft_model(network, facts)
        # peft leaves out what fits no layer, and begins anew what is missing.
        report = adapted.load_adapter(path, "default")
        if report.unexpected_keys or report.missing_keys:
            raise ValueError("it was made for other layers")
        adapted.merge_and_unload(safe_merge=True).save_pretrained(out)
        tokenizer = read_tokenizer(AutoTokenizer.from_pretrained, path if any(path.glob("tokenizer*")) else base)
        tokenizer.save_pretrained(out)
    except (ImportError, OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelDamaged(f"{path.name} could not be merged into {base.name}: {error}", MERGE) from error
