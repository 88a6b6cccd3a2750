"""A model's folder: what is amiss with its files before anything is made of them, and what to do about it; and how one
is made of something else, once."""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from engine.core.errors import ModelDamaged, ModelMissing, ModelRefused, ModelUnsupported
from engine.core.oom import free_bytes
from engine.core.system_errors import as_os_errors
from engine.models import hub

LOADING = Lock()
"""Held while transformers loads a model: it changes the type of all threads' new tensors, and back to what it found."""

_FROM_GGUF = "Choose the GGUF file itself, or the folder or hub id that it was made from."
_WORK = ".making"
MERGE = "Merge it into its base first (peft: merge_and_unload, then save_pretrained), and choose the folder that gives."
_CONVERT = "Load it once with transformers and keep it with save_pretrained, which writes *.safetensors."


def refuse_foreign(folder: Path, name: str) -> None:
    """Raise ModelUnsupported or ModelMissing for a folder that holds no whole model in safetensors."""
    if adapter := next(folder.glob("adapter_*"), None):
        raise ModelUnsupported(f"{name} holds a LoRA adapter ({adapter.name}), which would not be read with", MERGE)
    if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
        return
    message = f"{folder} holds no config.json with *.safetensors weights"
    if any(folder.glob("*.gguf")) or "gguf" in name.lower():
        raise ModelUnsupported(f"{message}, only GGUF", _FROM_GGUF)
    if any(folder.glob("*.bin")):
        raise ModelUnsupported(f"{message}, only pickled ones (*.bin)", _CONVERT)
    raise ModelMissing(message, "Choose the folder that holds both: --model FOLDER.")


def refuse_nonfinite(path: Path, name: str) -> None:
    """Raise ModelDamaged for a safetensors file in which a weight is infinite or no number, or that is torn."""
    try:
        with as_os_errors(), safe_open(path, "pt") as file:
            for weight in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(weight)
                if not tensor.is_floating_point() or tensor.itemsize == 1 or tensor.sum().isfinite():
                    continue
                # Summing is far quicker than looking at each number, but numbers in half precision may add up to inf.
                if wrong := tensor.numel() - int(tensor.isfinite().sum()):
                    raise ModelDamaged(f"{name}: {wrong:,} of the numbers of {weight} are infinite or none at all")
    except SafetensorError as error:
        raise ModelDamaged(f"{name} could not be loaded: {path.name}: {error}") from error


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder with a model, which `make` writes elsewhere first, unless it is there whole. Raises what that does."""
    work = folder.parent / _WORK / folder.name
    if hub.is_whole(folder):
        return folder
    work.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(work.parent / "lock"):
        if hub.is_whole(folder):
            return folder
        shutil.rmtree(work, ignore_errors=True)
        make(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    return folder


def need_room(name: str, num_bytes: int, copies: int, models: Path) -> None:
    """Raise ModelMissing or ModelRefused where a model of so many bytes does not fit on the disk, or so many copies of
    it not in memory."""
    if (free := shutil.disk_usage(models).free) < num_bytes:
        message = f"{name} does not fit on the disk: {num_bytes / 1e9:.1f} GB in 16 bits, {free / 1e9:.1f} GB free"
        raise ModelMissing(message, "Make room on the disk of the home.")
    if (room := free_bytes(torch.device("cpu"))) < copies * num_bytes:
        message = f"{name} takes {copies * num_bytes / 1e9:.1f} GB of memory, {room / 1e9:.1f} GB are free"
        raise ModelRefused(message, "Close other programs that use memory, or choose a smaller reader.")
