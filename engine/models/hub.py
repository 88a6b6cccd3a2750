"""The model hub: what a model's files weigh there, and how they come here, by huggingface_hub's own client.

The client's cache begins a file anew that was stopped in the middle, so files go into a folder of the home instead,
each on from where it stopped and checked against its sha256. What the cache holds is used where it lies.
"""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from huggingface_hub import HfApi, ModelInfo, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

from engine.core.errors import ModelDamaged, ModelMissing, ModelUnsupported
from engine.models.checksums import sha256

WEIGHTS = ".safetensors"
WANTED = (WEIGHTS, ".json", ".jinja", ".model", ".txt")
FOLDER = "hub"
OnBytes = Callable[[int, int], None]
"""Gets the bytes that are here and the bytes there will be; what it raises ends the download, to be gone on with."""
_FAILURES = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, HFValidationError))
"""What the client raises: its own errors are of these, and so is what its HTTP library says of a connection."""


def is_id(choice: str) -> bool:
    """Whether it has the form of a hub id, and is no folder here."""
    return choice.count("/") == 1 and not choice.startswith(("/", ".", "~")) and not Path(choice).is_dir()


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model with all of its weights and a tokenizer."""
    if not (folder / "config.json").exists() or not any(folder.glob("tokenizer*")):
        return False
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return any(folder.glob(f"*{WEIGHTS}"))
    return all((folder / name).exists() for name in set(json.loads(index.read_text())["weight_map"].values()))


def weight_bytes(folder: Path) -> int:
    """Of the weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob(f"*{WEIGHTS}"))


def found(hub_id: str, models: Path) -> Path | None:
    """Where a model of the hub lies on this machine; None where it does not, or not whole. Asks nobody."""
    if is_whole(own := _own(hub_id, models)):
        return own
    try:
        cached = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    folder = Path(cached).parent if isinstance(cached, str) else None
    return folder if folder and is_whole(folder) else None


def listing(hub_id: str) -> ModelInfo:
    """The files that there are to fetch. Raises ModelMissing, and ModelUnsupported where there are no safetensors."""
    try:
        info = HfApi().model_info(hub_id, files_metadata=True)
    except _FAILURES as error:
        raise _missing(hub_id, error) from error
    # Not what other programs need: files in folders, and Mistral's second copy of all weights.
    names = [(each, each.rfilename) for each in info.siblings or () if each.rfilename.endswith(WANTED)]
    info.siblings = [each for each, name in names if "/" not in name and not name.startswith("consolidated")]
    if not num_bytes(info, WEIGHTS):
        raise ModelUnsupported(f"{hub_id} has no *.safetensors on the hub", "Choose the model that it was made from.")
    return info


def num_bytes(listed: ModelInfo, suffix: str = "") -> int:
    """Of all its files, or of those with a suffix."""
    return sum(each.size or 0 for each in listed.siblings or () if each.rfilename.endswith(suffix))


def fetch(hub_id: str, models: Path, on_bytes: OnBytes) -> Path:
    """The folder of a hub's model, downloaded where it is not on this machine, on from where that stopped.

    Raises ModelMissing, ModelUnsupported, and ModelDamaged where what came is not what the hub says.
    """
    if folder := found(hub_id, models):
        return folder
    disable_progress_bars()
    own, listed = _own(hub_id, models), listing(hub_id)
    work = own.with_name(f".{own.name}.{listed.sha}")
    own.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(own.with_name(f".{own.name}.lock")):
        if is_whole(own):
            return own
        for other_version in {*own.parent.glob(f".{own.name}.*/")} - {work}:
            shutil.rmtree(other_version)
        work.mkdir(exist_ok=True)
        before, total = 0, num_bytes(listed)
        left = total - sum(path.stat().st_size for path in work.iterdir())
        if (free := shutil.disk_usage(work).free) < left:
            message = f"{hub_id} does not fit on the disk: {left / 1e9:.1f} GB to come, {free / 1e9:.1f} GB free"
            raise ModelMissing(message, "Make room on the disk of the home.")
        for each in listed.siblings or ():
            path, size = work / each.rfilename, each.size or 0
            if not path.exists():
                part = path.with_name(f"{path.name}.part")
                url = hf_hub_url(hub_id, path.name, revision=listed.sha)
                try:
                    with _Part(part, on_bytes, before, total) as out:
                        http_get(url, out, resume_size=out.tell(), headers=build_hf_headers(), expected_size=size)
                except _FAILURES as error:
                    raise _missing(hub_id, error) from error
                if each.lfs and sha256(part) != each.lfs.sha256:
                    part.unlink()
                    raise ModelDamaged(f"{path.name} of {hub_id} came damaged from the hub", "Fetch it once more.")
                part.replace(path)
            before += size
        work.replace(own)
    return own


class _Part(io.BufferedRandom):
    """A file that grows at its end, and tells how far it is."""

    def __init__(self, path: Path, on_bytes: OnBytes, before: int, total: int) -> None:
        path.touch()
        super().__init__(io.FileIO(path, "r+"))
        self.seek(0, io.SEEK_END)
        self._on_bytes, self._before, self._total = on_bytes, before, total

    def write(self, chunk: Any) -> int:
        """Also says so."""
        written = super().write(chunk)
        self._on_bytes(self._before + self.tell(), self._total)
        return written


def _own(hub_id: str, models: Path) -> Path:
    return models / FOLDER / hub_id.replace("/", "--")


def _missing(hub_id: str, error: Exception) -> ModelMissing:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    hint = ""
    if isinstance(error, GatedRepoError):
        hint = "Accept its terms on the model hub, and log in once: hf auth login."
    elif isinstance(error, (HFValidationError, RepositoryNotFoundError)):
        hint = "Check how it is spelled; for a private one log in once: hf auth login."
    return ModelMissing(f"{hub_id} could not be fetched from the model hub: {reason}", hint)
