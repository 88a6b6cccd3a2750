"""A causal language model and its tokenizer, from a hub id, a local folder or GGUF file, or the embedded default."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from engine.attention import sdpa
from engine.core.compile_cache import keep_compiled
from engine.core.errors import ModelDamaged, ModelMissing, ModelRefused, ModelUnsupported, OutOfMemory
from engine.core.kv_shape import KVShape
from engine.core.oom import free_bytes, translate_oom
from engine.kernels.cpu.sizes import kernels_version
from engine.models import checksums, embedded, hub
from engine.models.download import said
from engine.models.families import gguf_file, lora_folder
from engine.models.families.base import kv_shape, settle_longrope
from engine.models.families.config import TEXT_WEIGHTS, config_of, is_unpacked
from engine.models.families.known import EMBEDDED, GPU_DEFAULT, READERS
from engine.models.families.states import found_states
from engine.models.folder import LOADING, refuse_foreign, refuse_nonfinite
from engine.models.tokenizer import Tokenizer, read_tokenizer
from engine.models.weight_cache import WeightCache

GPU_DEFAULT_BYTES = 6 << 30
"""Free GPU memory from which the default is taken: 2.5 GB of 4-bit weights, and room for a document."""
_NF4_SHARE, _GPU_ROOM_BYTES = 0.3, 4_000_000_000
"""Of the bytes in 16 bits, what 4-bit weights take with embeddings that stay in 16; and room for a document."""
_CPU_COPIES, _ROOM_BYTES = 2, 500_000_000
"""Of the weights in 16 bits, which the products of a few rows and of one token read on a processor; and room."""

_REMEMBERED_SECONDS = 0.5
"""A digest that takes longer is not remembered: the model is not known here."""


@dataclass(frozen=True)
class Model:
    """A loaded model with the facts that pods depend on."""

    network: Any
    tokenizer: Tokenizer
    shape: KVShape
    device: torch.device
    window: int
    stop_ids: frozenset[int]
    name: str
    digest: str
    """sha256 over weights, config, tokenizer, chat template and weight quantization: nothing of the machine.

    The dtype of the arithmetic is not part of it: it is in `shape`.
    """
    why: str
    better: str = ""

    def need_every_token(self) -> None:
        """Raise ModelUnsupported where not all layers see every token in the same way: none can stand for another."""
        if self.shape.peculiarity:
            raise ModelUnsupported(f"{self.name} has {self.shape.peculiarity}, and such layers share no keys")


def load(choice: str, models: Path, on_progress: Callable[[str], None], threads: int = 0) -> Model:
    """Load `auto`, `embedded`, a local folder or GGUF file, or a hub id.

    It runs on so many processor threads (0: all cores). Raises ModelRefused, and OutOfMemory where it does not fit.
    """
    disable_progress_bar()  # `on_progress` says what is happening
    if threads:
        torch.set_num_threads(threads)
    if choice == "auto":
        return _load_auto(models, on_progress)
    if choice == "embedded":
        return _load_embedded(models, on_progress, "the embedded model, as asked for")
    return _load_any(choice, models, on_progress, "as asked for")


def select_device() -> torch.device:
    """Where models run: NVIDIA's GPU (or AMD's, which PyTorch calls by the same name), Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _load_auto(models: Path, on_progress: Callable[[str], None]) -> Model:
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    if free < GPU_DEFAULT_BYTES:
        seen = f"only {free / 1e9:.1f} GB of GPU memory is free" if free else "no GPU was found"
        better = better_reader(models) or f"A GPU of 8 GB or more could run {GPU_DEFAULT}"
        return _load_embedded(models, on_progress, f"the embedded model, because {seen}", better)
    try:
        return _load_any(GPU_DEFAULT, models, on_progress, f"chosen because {free / 1e9:.0f} GB of GPU memory is free")
    except (ModelRefused, OutOfMemory) as refused:
        why = f"the embedded model, because {GPU_DEFAULT} cannot be loaded here ({refused})"
        better = f"This GPU could run {GPU_DEFAULT}, once the model hub can be reached or the folder is given"
        return _load_embedded(models, on_progress, why, better)


def better_reader(models: Path) -> str:
    """Which better reader this machine could run, in a sentence; empty where its memory is too small for any."""
    free = free_bytes(torch.device("cpu"))
    larger = (each for each in READERS if each is not EMBEDDED)
    name = next((each.name for each in larger if free >= needed_bytes(each.weight_bytes, models)), "")
    return f"This machine has {free / 1e9:.0f} GB of memory free and could run {name}" if name else ""


def needed_bytes(weight_bytes: int, models: Path) -> int:
    """About the memory in which a reader can be loaded whose weights have so many bytes in 16 bits.

    Measured on a processor, in units of these: 4.0 held in float32 and 5.2 at most, 2.4 and 3.5 in bfloat16.
    """
    device = select_device()
    if device.type == "cuda":
        return int(_NF4_SHARE * weight_bytes) + _GPU_ROOM_BYTES
    scale = 2 if device.type == "cpu" and _cpu_dtype(models / "cpu-dtype.txt") is torch.float32 else 1
    return (scale + _CPU_COPIES + 1) * weight_bytes + _ROOM_BYTES


def held_bytes(model: Model) -> int:
    """About the memory that a model takes where it runs, without pods."""
    network = model.network
    copies = _CPU_COPIES * 2 * network.num_parameters() if model.device.type == "cpu" else 0
    return int(network.get_memory_footprint()) + copies


def _load_embedded(models: Path, on_progress: Callable[[str], None], why: str, better: str = "") -> Model:
    better = better or better_reader(models)
    wrong: list[str] = []
    for _ in range(2):
        folder = embedded.ensure(models, on_progress)
        with ThreadPoolExecutor(1, "checksums") as beside:
            checking = beside.submit(embedded.damaged, folder)
            try:
                # The folder is made from pinned bytes, whatever version of transformers wrote its files.
                model = _load_folder(folder, embedded.NAME, models, on_progress, why, better, embedded.SHA256)
                if not checking.result():
                    return model
            except ModelRefused:
                if not checking.result():
                    raise
        wrong = checking.result()
        on_progress(f"The embedded model is damaged ({', '.join(wrong)}): it is fetched anew.")
    raise ModelDamaged(
        f"The embedded model is damaged again ({', '.join(wrong)})", "Check the disk of the home folder."
    )


def _load_any(choice: str, models: Path, on_progress: Callable[[str], None], why: str) -> Model:
    if folder := local_folder(choice, models, on_progress):
        return _load_folder(folder, folder.resolve().name, models, on_progress, why)
    if torch.cuda.is_available() and not find_spec("bitsandbytes"):
        message = f"{choice} is read in 4 bits on a GPU, which needs bitsandbytes"
        raise ModelMissing(message, "Install it: pip install 'docpod[gpu]'.")
    return _load_folder(hub.fetch(choice, models, said(on_progress, choice)), choice, models, on_progress, why)


def local_folder(choice: str, models: Path, on_progress: Callable[[str], None]) -> Path | None:
    """The folder that is chosen, or that a chosen GGUF file was converted into, or a LoRA adapter merged; None where it
    is a hub id.

    Raises ModelRefused.
    """
    path = Path(choice).expanduser()
    if path.is_dir():
        return lora_folder.folder_of(path, models, on_progress) if lora_folder.is_adapter(path) else path
    is_gguf = choice.lower().endswith(gguf_file.SUFFIX)
    if is_gguf and path.is_file():
        return gguf_file.folder_of(path, models, on_progress)
    if is_gguf or not hub.is_id(choice):
        message = f"{choice!r} is neither a folder with a model, nor a GGUF file, nor a hub id such as {GPU_DEFAULT}"
        raise ModelMissing(message, "Check the path: --model FOLDER.")
    return None


def _load_folder(
    folder: Path,
    name: str,
    models: Path,
    on_progress: Callable[[str], None],
    why: str,
    better: str = "",
    digest: str = "",
) -> Model:
    sdpa.register()
    refuse_foreign(folder, name)
    device = select_device()
    dtype = _cpu_dtype(models / "cpu-dtype.txt") if device.type == "cpu" else torch.bfloat16
    keep_compiled(models / "kernels", device.type, kernels_version() if device.type == "cpu" else "")
    on_progress(f"Loading {name}.")
    config = config_of(folder, name)
    quantized = device.type == "cuda" and name != embedded.NAME and not is_unpacked(config)
    with ThreadPoolExecutor(1, "digest") as beside:
        try:
            # What is not remembered takes about as long as loading does.
            digesting = beside.submit(_digest, folder, name, models / "digests.json", "nf4" if quantized else "")
            options = {"config": config, "dtype": dtype, "attn_implementation": sdpa.NAME, "device_map": str(device)}
            cache = WeightCache(models / "quantized") if quantized else None
            with translate_oom():
                network = _network(folder, name, options, cache, digesting)
            tokenizer = read_tokenizer(AutoTokenizer.from_pretrained, folder)
        except ImportError as error:
            raise ModelUnsupported(f"{name} could not be loaded: {error}", "Install what is missing.") from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelDamaged(f"{name} could not be loaded: {error}") from error
    last_id, rows = max(tokenizer.get_vocab().values()), network.get_input_embeddings().num_embeddings
    if last_id >= rows:
        raise ModelDamaged(
            f"{name} could not be loaded: its tokenizer has ids up to {last_id:,}, its weights only {rows:,} of them",
            "Copy the tokenizer's files that belong to these weights into the folder.",
        )
    if not tokenizer.chat_template:
        message = f"{name} has no chat template; DocPod asks chat or instruct models"
        raise ModelUnsupported(message, "Choose the chat or instruct model of this family: --model FOLDER.")
    network.eval()
    settle_longrope(network)
    stops = network.generation_config.eos_token_id
    return Model(
        network=network,
        tokenizer=Tokenizer(tokenizer),
        shape=kv_shape(config, dtype, found_states(network)),
        device=device,
        window=config.max_position_embeddings,
        stop_ids=frozenset([stops] if isinstance(stops, int) else stops or [tokenizer.eos_token_id]),
        name=name,
        digest=digest or digesting.result(),
        why=why,
        better=better,
    )


def _network(
    folder: Path, name: str, options: Mapping[str, Any], cache: WeightCache | None, digesting: Future[str]
) -> Any:
    """The network of a folder; with a cache in 4 bits, from there if its digest is known at once, and kept there else.

    Raises what transformers does, and ModelDamaged where weights are missing.
    """
    if cache is None:
        return _loaded(folder, name, options)
    with suppress(TimeoutError):
        if kept := cache.find(digest := digesting.result(_REMEMBERED_SECONDS)):
            try:
                # Its own config says how the weights are kept.
                return _loaded(kept, name, {**options, "config": None})
            except (OSError, ValueError, RuntimeError, SafetensorError, ModelDamaged) as error:
                # As where another version of transformers wrote them.
                cache.drop(digest, str(error))
    network = _loaded(folder, name, {**options, "quantization_config": _nf4()})
    cache.keep(digesting.result(), network)
    return network


def _loaded(folder: Path, name: str, options: Mapping[str, Any]) -> Any:
    with LOADING:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, key_mapping=TEXT_WEIGHTS, **options
        )
    network, report = loaded
    if report["missing_keys"]:
        # transformers fills them with random numbers, and goes on.
        raise ModelDamaged(f"{name} could not be loaded: its files lack {len(report['missing_keys'])} of its weights")
    return network


def _nf4() -> Any:
    """Weights in 4 bits: NF4 with double quantization by bitsandbytes."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _cpu_dtype(memo: Path) -> torch.dtype:
    """bfloat16 where this processor multiplies it faster than float32, by a probe of a few milliseconds.

    The choice is remembered: a pod of one dtype is of no use to the other, so it must not change with the weather.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if memo.exists() and (known := memo.read_text(errors="replace")) in dtypes:
        return dtypes[known]
    seconds = dict.fromkeys(dtypes, float("inf"))
    # In turns, and the best of each: other programs may be at work. The first turn also makes ready.
    for turn in range(10):
        if turn > 1 and max(seconds.values()) > 3 * min(seconds.values()):
            break
        for name, dtype in dtypes.items():
            a, b = torch.ones(512, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
            start = time.perf_counter()
            _ = a @ b
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    fastest = min(seconds, key=seconds.__getitem__)
    checksums.remember(memo, fastest)
    return dtypes[fastest]


def _digest(folder: Path, name: str, memo: Path, quantization: str) -> str:
    """sha256 of the files that define the model; a file's hash is remembered by its size and time of change.

    Raises ModelDamaged for weights that are no numbers, which is seen as rarely as they are hashed.
    """
    known = checksums.remembered(memo)
    total = hashlib.sha256(quantization.encode())
    names = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model"}
    keys = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix == ".safetensors" or p.name in names):
        keys[path] = checksums.key(path.resolve())
    new = [path for path, key in keys.items() if key not in known]
    with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
        known |= zip((keys[path] for path in new), pool.map(partial(_file_digest, name), new), strict=True)
    for path, key in keys.items():
        total.update(f"{path.name}:{known[key]}\n".encode())
    checksums.remember(memo, json.dumps(known))
    return total.hexdigest()


def _file_digest(name: str, path: Path) -> str:
    if path.suffix == ".safetensors":
        refuse_nonfinite(path, name)
    return checksums.sha256(path)
