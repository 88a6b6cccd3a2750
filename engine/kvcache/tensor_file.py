"""Files of tensors that were found for a model, under its name and digest: key maps, the basis of coding."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.core.atomic import atomic_write
from engine.core.errors import PlanMissing
from engine.core.system_errors import as_os_errors
from engine.models.loader import Model

Made = TypeVar("Made")


def write(folder: Path, model: Model, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write the file of this kind that `find` reads for the model; returns its path."""
    path = path_of(folder, model.name, model.digest, kind)
    named = {name: tensor.contiguous() for name, tensor in tensors.items()}
    known = {"digest": model.digest, "content": _content(named), **facts}
    with atomic_write(path) as scratch:
        save_file(named, scratch, {"docpod": json.dumps(known)})
    return path


def find(
    model: Model,
    kind: str,
    folders: Sequence[Path],
    make: Callable[[dict[str, Any], dict[str, Tensor]], Made],
    what: str,
    tool: str,
) -> Made | None:
    """What `make` makes of the facts and tensors of the first file of this kind in the folders; None if none has one.

    An adapted model has that of the model it was. Raises PlanMissing for a file that does not hold `what` it should, or
    not as it was written, and names the command to make it with.
    """
    for folder in folders:
        path = path_of(folder, model.name, model.digest, kind)
        if not path.exists():
            continue
        try:
            with as_os_errors(), safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {})["docpod"])
                if facts["digest"] == model.digest:
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    # Those of earlier versions do not say.
                    if facts.get("content", "") not in ("", _content(tensors)):
                        raise ValueError("it is damaged")
                    return make(facts, {name: each.to(model.device) for name, each in tensors.items()})
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise PlanMissing(f"{path} holds no {what}: {error}; make it anew with {tool}") from error
    return None


def _content(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE3 over all numbers, in the order of their names."""
    total = blake3(max_threads=blake3.AUTO)
    for _, tensor in sorted(tensors.items()):
        total.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def path_of(folder: Path, model: str, digest: str, kind: str) -> Path:
    """Where the file of a kind is, for a model by its name and digest."""
    return folder / f"{model.replace('/', '--')}.{digest[:12]}.{kind}.safetensors"
