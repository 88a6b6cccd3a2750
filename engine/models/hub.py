"""The model hub: what a model's files weigh there, and how they come here, by huggingface_hub's own client.

The client's cache begins a file anew that was stopped in the middle, so files go into a folder of the home instead,
each on from where it stopped and checked against its sha256. What the cache holds is used where it lies.
"""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

from engine.core.errors import ModelDamaged, ModelMissing, ModelUnsupported
from engine.models.checksums import sha256

WANTED = (".json", ".safetensors", ".jinja", ".model", ".txt")
FOLDER = "hub"
_FAILURES = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, HFValidationError))
"""What the client raises: its own errors are of these, and so is what its HTTP library says of a connection."""
OnBytes = Callable[[int, int], None]
"""Gets the bytes that are here and the bytes there will be; what it raises ends the download, to be gone on with."""


@dataclass(frozen=True)
class HubFile:
    """A file of a model; `sha256` is empty for a small one, of which the hub does not say it."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Listing:
    """What the hub has of a model at one commit."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(each.num_bytes for each in self.files)

    @property
    def weight_bytes(self) -> int:
        """Of the weights alone."""
        return sum(each.num_bytes for each in self.files if each.name.endswith(".safetensors"))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model with all of its weights and a tokenizer."""
    if not (folder / "config.json").exists() or not any(folder.glob("tokenizer*")):
        return False
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return any(folder.glob("*.safetensors"))
    return all((folder / name).exists() for name in set(json.loads(index.read_text())["weight_map"].values()))


def weight_bytes(folder: Path) -> int:
    """Of the weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def is_id(choice: str) -> bool:
    """Whether it has the form of a hub id, and is no folder here."""
    return choice.count("/") == 1 and not choice.startswith(("/", ".", "~")) and not Path(choice).is_dir()


def hub_id(folder: Path) -> str:
    """Of the model that was fetched into a folder."""
    return folder.name.replace("--", "/", 1)


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


def listing(hub_id: str) -> Listing:
    """What there is to fetch. Raises ModelMissing, and ModelUnsupported where there are no safetensors."""
    try:
        info = HfApi().model_info(hub_id, files_metadata=True)
    except _FAILURES as error:
        raise _missing(hub_id, error) from error
    files = tuple(
        HubFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else "")
        for each in info.siblings or ()
        # Not what other programs need: files in folders, and Mistral's second copy of all weights.
        if each.rfilename.endswith(WANTED)
        and "/" not in each.rfilename
        and not each.rfilename.startswith("consolidated")
    )
    if not any(each.name.endswith(".safetensors") for each in files):
        raise ModelUnsupported(f"{hub_id} has no *.safetensors on the hub", "Choose the model that it was made from.")
    return Listing(info.sha or "main", files)


def fetch(hub_id: str, models: Path, on_bytes: OnBytes, listed: Listing | None = None) -> Path:
    """The folder of a hub's model, downloaded where it is not on this machine, on from where that stopped.

    Raises ModelMissing, ModelUnsupported, and ModelDamaged where what came is not what the hub says.
    """
    if folder := found(hub_id, models):
        return folder
    disable_progress_bars()
    own, listed = _own(hub_id, models), listed or listing(hub_id)
    work = own.with_name(f".{own.name}.{listed.commit[:12]}")
    own.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(own.with_name(f".{own.name}.lock")):
        if is_whole(own):
            return own
        for older in own.parent.glob(f".{own.name}.*/"):
            if older != work:
                shutil.rmtree(older)
        work.mkdir(exist_ok=True)
        have = sum(path.stat().st_size for path in work.iterdir())
        if (free := shutil.disk_usage(work).free) < listed.num_bytes - have:
            needed = f"{(listed.num_bytes - have) / 1e9:.1f} GB are to be fetched, {free / 1e9:.1f} GB are free"
            raise ModelMissing(f"{hub_id} does not fit on the disk: {needed}", "Make room on the disk of the home.")
        before, total = 0, listed.num_bytes
        for each in listed.files:
            if not (work / each.name).exists():
                _fetch_file(hub_id, listed.commit, each, work, partial(_tell, on_bytes, before, total))
            before += each.num_bytes
        work.replace(own)
    return own


class _Part(io.BufferedRandom):
    """A file that grows at its end, and tells how far it is."""

    def __init__(self, path: Path, on_grown: Callable[[int], None]) -> None:
        path.touch()
        super().__init__(io.FileIO(path, "r+"))
        self.seek(0, io.SEEK_END)
        self._on_grown = on_grown

    def write(self, chunk: Any) -> int:
        """Also says so."""
        written = super().write(chunk)
        self._on_grown(self.tell())
        return written


def _fetch_file(hub_id: str, commit: str, file: HubFile, work: Path, on_grown: Callable[[int], None]) -> None:
    path = work / f"{file.name}.part"
    url = hf_hub_url(hub_id, file.name, revision=commit)
    try:
        with _Part(path, on_grown) as part:
            http_get(url, part, resume_size=part.tell(), headers=build_hf_headers(), expected_size=file.num_bytes)
    except _FAILURES as error:
        raise _missing(hub_id, error) from error
    if file.sha256 and sha256(path) != file.sha256:
        path.unlink()
        raise ModelDamaged(f"{file.name} of {hub_id} came damaged from the model hub", "Fetch it once more.")
    path.replace(work / file.name)


def _tell(on_bytes: OnBytes, before: int, total: int, have: int) -> None:
    on_bytes(before + have, total)


def _own(hub_id: str, models: Path) -> Path:
    return models / FOLDER / hub_id.replace("/", "--")


def _missing(hub_id: str, error: Exception) -> ModelMissing:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    hint = ""
    if isinstance(error, GatedRepoError):
        hint = "Accept its terms on the model hub, and log in once: hf auth login."
    elif isinstance(error, (HFValidationError, RepositoryNotFoundError)):
        hint = "Check how it is spelled; for a private one log in once: hf auth login."
    return ModelMissing(f"{hub_id} could not be fetched from the model hub: {reason}", hint)
