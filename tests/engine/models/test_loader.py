"""Models: what loads and what is refused, in which words, and what a model's digest stands for."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.attention.sdpa import select_backend
from engine.core.errors import EngineError, ModelDamaged, ModelMissing, ModelRefused, ModelUnsupported, OutOfMemory
from engine.core.lse import reference
from engine.models import embedded, loader
from engine.models.loader import Model
from engine.runtime.runner import Runner
from tests import tiny
from tests.engine.reading import ask, read
from tests.engine.shapes import uniform

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folder, to be spoilt."""
    return shutil.copytree(tiny_model_dir, tmp_path / "some-model")


def load(choice: Path | str, memory: Path, said: list[str] | None = None) -> Model:
    return loader.load(str(choice), memory, (said if said is not None else []).append)


def configure(**facts: object) -> Callable[[Path], None]:
    """A change of a model's config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))

    return change


def tear(name: str, keep_bytes: int) -> Callable[[Path], None]:
    """A file of which only the first bytes are there."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep_bytes])


def drop(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return change


def test_a_local_folder(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    model = load(folder, tmp_path, said)
    assert (model.name, model.window, model.stop_ids) == ("some-model", 2048, frozenset([257]))
    assert model.shape == uniform(4, 2, 16, model.network.dtype)
    assert model.shape.dtype in (torch.float32, torch.bfloat16)
    assert model.device == torch.device("cpu")
    assert model.network.config._attn_implementation == "docpod"
    assert not model.network.training
    assert "as asked for" in model.why
    assert said == ["Loading some-model."]
    weights = {name: value.float() for name, value in model.network.state_dict().items()}
    for name, value in tiny.llama().state_dict().items():
        assert torch.equal(weights[name], value.to(model.shape.dtype).float())


def test_the_threads_that_were_asked_for(folder: Path, tmp_path: Path, one_thread: None) -> None:
    loader.load(str(folder), tmp_path, print)
    assert torch.get_num_threads() == 1, "0 leaves them as they are"
    loader.load(str(folder), tmp_path, print, threads=2)
    assert torch.get_num_threads() == 2


def test_a_folder_is_named_for_itself(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it was reached: the name is in the library and on the file of heads."""
    monkeypatch.chdir(folder)
    assert load(".", tmp_path).name == "some-model"
    assert load(f"{folder}/", tmp_path).name == "some-model"


def test_what_the_generation_config_stops_at(folder: Path, tmp_path: Path) -> None:
    path = folder / "generation_config.json"
    facts = json.loads(path.read_text())
    for stops, wanted in (([257, 300], {257, 300}), (0, {0}), (None, {257})):
        path.write_text(json.dumps({**facts, "eos_token_id": stops}))
        configure(eos_token_id=stops)(folder)
        assert load(folder, tmp_path).stop_ids == wanted


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("nobody", "neither a folder with a model, nor a GGUF file, nor a hub id"),
        ("/nowhere/at/all", "neither a folder"),
        ("/nowhere/model", "neither a folder"),
        ("./no/such", "neither a folder"),
        ("~/no-such-folder-here", "neither a folder"),
    ],
)
def test_what_is_no_model_is_called_so(choice: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=words) as raised:
        load(choice, tmp_path)
    assert choice in str(raised.value)


_NO_MERGE = '{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}}'
"""Of this tokenizers raises a plain `Exception`, as of a file that cannot be opened."""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (tear("config.json", 1), "could not be loaded: .*not a valid JSON"),
        (tear("model.safetensors", 5000), "could not be loaded"),
        (tear("model.safetensors", 0), "could not be loaded"),
        (drop("token*"), "could not be loaded: .*tokenizer"),
        (tear("tokenizer.json", 10), "could not be loaded"),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "its tokenizer cannot be read",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text(_NO_MERGE), "its tokenizer cannot be read"),
        (configure(hidden_size=96), "could not be loaded"),
        (configure(num_hidden_layers=6), "its files lack 18 of its weights"),
    ],
)
def test_a_spoilt_folder_is_refused(spoil: Callable[[Path], None], words: str, folder: Path, tmp_path: Path) -> None:
    """With the reason, and never with weights made up for those that are missing."""
    spoil(folder)
    with pytest.raises(ModelDamaged, match=words) as raised:
        load(folder, tmp_path)
    assert "again" in raised.value.hint


def rename_weights(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def beside(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(b"{}")


@pytest.mark.parametrize(
    ("change", "refused", "words", "hint"),
    [
        (drop("config.json"), ModelMissing, "holds no config.json with", "the folder that holds both"),
        (drop("*.safetensors"), ModelMissing, "holds no config.json with", "the folder that holds both"),
        (rename_weights("model-Q4_K_M.gguf"), ModelUnsupported, "only GGUF", "Choose the GGUF file itself"),
        (rename_weights("pytorch_model.bin"), ModelUnsupported, "only pickled", "save_pretrained"),
        (beside("adapter_config.json"), ModelUnsupported, "LoRA adapter .adapter_config", "merge_and_unload"),
        (beside("adapter_model.safetensors"), ModelUnsupported, "LoRA adapter .adapter_model", "merge_and_unload"),
        (configure(model_type="no-such-thing"), ModelUnsupported, "could not be loaded: .*no-such-thing", "another"),
        (lambda folder: (folder / "config.json").write_text("{}"), ModelUnsupported, "model_type", "another model"),
        (drop("chat_template*"), ModelUnsupported, "no chat template", "chat or instruct model of this family"),
    ],
)
def test_each_cause_has_a_hint_of_its_own(
    change: Callable[[Path], None], refused: type[ModelRefused], words: str, hint: str, folder: Path, tmp_path: Path
) -> None:
    change(folder)
    with pytest.raises(refused, match=words) as raised:
        load(folder, tmp_path)
    assert type(raised.value) is refused
    assert hint in raised.value.hint and "network" not in raised.value.hint


def test_a_model_that_does_not_fit_is_not_called_damaged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    monkeypatch.setattr(loader.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(OutOfMemory, match=r"2\.68 GB"):
        load(folder, tmp_path)


def test_an_adapter_alone_is_called_so(folder: Path, tmp_path: Path) -> None:
    """Its folder has no config.json; what is to be done is the same."""
    rename_weights("adapter_model.safetensors")(folder)
    drop("config.json")(folder)
    with pytest.raises(ModelUnsupported, match="some-model holds a LoRA adapter"):
        load(folder, tmp_path)


@pytest.mark.parametrize("choice", ["/models/some-model.Q4_K_M.gguf", "./some.GGUF", "some.gguf", "a/some.gguf"])
def test_a_path_of_no_gguf_file(choice: str, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="nor a GGUF file") as raised:
        load(choice, tmp_path)
    assert "path" in raised.value.hint


def test_a_tokenizer_with_more_ids_than_the_weights(folder: Path, tmp_path: Path) -> None:
    inner = tiny.tokenizer()
    inner.add_tokens([f"<token {number}>" for number in range(512 - len(inner))])
    inner.save_pretrained(folder)
    assert load(folder, tmp_path).tokenizer.encode_template("<token 252>") == [511], "the last row"
    inner.add_tokens(["<one too many>"])
    inner.save_pretrained(folder)
    with pytest.raises(ModelDamaged, match="ids up to 512, its weights only 512 of them") as raised:
        load(folder, tmp_path)
    assert "tokenizer" in raised.value.hint


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_no_numbers(number: float, dtype: torch.dtype, folder: Path, tmp_path: Path) -> None:
    """One in a whole model is enough, and every start says so."""
    name = "model.layers.2.mlp.up_proj.weight"
    weights = {key: value.to(dtype) for key, value in load_file(folder / "model.safetensors").items()}
    # Half precision's numbers may add up to more than it has room for, which is no fault.
    weights["model.layers.0.mlp.up_proj.weight"].fill_(3e4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load(folder, tmp_path)
    weights[name][7, 5] = number
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for _ in range(2):
        with pytest.raises(ModelDamaged, match=f"some-model: 1 of the numbers of {name} are infinite"):
            load(folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (configure(model_type="gpt2", architectures=["GPT2LMHeadModel"]), "'gpt2' model"),
        (
            configure(
                model_type="qwen3",
                architectures=["Qwen3ForCausalLM"],
                layer_types=["full_attention", "chunked_attention"] * 2,
            ),
            "with chunked_attention layers",
        ),
        (
            configure(model_type="granitemoehybrid", layer_types=["mamba"] * 4),
            "no layer that attends",
        ),
        (
            configure(model_type="jamba", attn_layer_period=2, attn_layer_offset=1),
            "is a 'jamba' model",
        ),
        (
            configure(rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}),
            "'dynamic' rotary positions",
        ),
    ],
)
def test_what_pods_cannot_hold_is_refused(
    change: Callable[[Path], None], words: str, folder: Path, tmp_path: Path
) -> None:
    change(folder)
    with pytest.raises(ModelUnsupported, match=words) as raised:
        load(folder, tmp_path)
    assert "some-model" in str(raised.value) and "DocPod" in str(raised.value)


@pytest.mark.parametrize("kind", tiny.windowed(64))
def test_a_sliding_window_is_of_the_layers_that_have_it(kind: str, folder: Path, tmp_path: Path) -> None:
    tiny.windowed(64)[kind]().save_pretrained(folder)
    model = load(folder, tmp_path)
    every_other = [64, None] * 2 if "other" in kind else [64] * 4
    assert [layer.window for layer in model.shape.per_layer] == every_other
    assert model.window == 2048


def test_longrope_has_the_frequencies_of_long_texts(folder: Path, tmp_path: Path, one_thread: None) -> None:
    """Whatever has been read so far; for a text longer than the model first knew they are transformers' own."""
    factors = {"short_factor": [1.0, 1.1, 1.2, 1.5], "long_factor": [1.0, 2.0, 4.0, 9.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.5, **factors}
    network = tiny.phi3(rope_parameters=rope, original_max_position_embeddings=64)
    network.save_pretrained(folder)
    ids = torch.randint(0, 250, (1, 100), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(input_ids=ids, use_cache=False).logits[0]
        (tmp_path / "cpu-dtype.txt").write_text("float32")
        runner = Runner(load(folder, tmp_path))
        pod = read(runner, ids[0, :40].tolist())
        asked = ask(runner, [pod], [ids[0, 40:].tolist()])[0]
    torch.testing.assert_close(asked, expected[-1], rtol=0, atol=1e-4)
    assert "layers: flat" in runner.backend


def test_a_sliding_window_that_is_switched_off_is_fine(folder: Path, tmp_path: Path) -> None:
    """Qwen2's files name a window that no layer uses."""
    configure(model_type="qwen3", architectures=["Qwen3ForCausalLM"], sliding_window=64, use_sliding_window=False)(
        folder
    )
    tiny.qwen3().save_pretrained(folder / "qwen3")
    shutil.copy(folder / "qwen3" / "model.safetensors", folder)
    assert load(folder, tmp_path).window == 2048


def test_the_digest_stands_for_what_the_model_is(folder: Path, tmp_path: Path) -> None:
    """Weights, config, tokenizer and template change it; a path, a time and a file that is not read do not."""
    digest = load(folder, tmp_path).digest
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed", copy_function=shutil.copyfile)
    for path in moved.iterdir():
        os.utime(path, ns=(1, 1))
    (moved / "README.md").write_text("not read")
    assert load(moved, tmp_path).digest == digest
    assert load(moved, tmp_path / "other-memory").digest == digest

    def flip_weight(folder: Path) -> None:
        path = folder / "model.safetensors"
        contents = bytearray(path.read_bytes())
        contents[-3] ^= 1
        path.write_bytes(contents)

    def reword_template(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text().replace("user", "User") + " ")

    def rename_token(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace("<|endoftext|>", "<|end_of_text|>"))

    digests = {digest}
    for number, change in enumerate((flip_weight, reword_template, rename_token, configure(rms_norm_eps=1e-5))):
        changed = shutil.copytree(folder, tmp_path / f"changed-{number}")
        change(changed)
        digests.add(load(changed, tmp_path).digest)
    assert len(digests) == 5


def test_the_digest_is_the_same_in_both_dtypes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast a processor multiplies says nothing about the model; a pod's identity has the dtype beside it."""
    loaded = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(loader, "_cpu_dtype", lambda memo, dtype=dtype: dtype)
        loaded.append(load(folder, tmp_path))
    assert loaded[0].digest == loaded[1].digest
    assert [model.shape.dtype for model in loaded] == [torch.float32, torch.bfloat16]


def test_a_files_hash_is_remembered_until_it_changes(folder: Path, tmp_path: Path) -> None:
    memo = tmp_path / "digests.json"
    digest = load(folder, tmp_path).digest
    known = json.loads(memo.read_text())
    assert len(known) == 5
    # What was remembered is used: a hash in the memo that is not the file's shows in the digest.
    memo.write_text(json.dumps(dict.fromkeys(known, "0" * 64)))
    assert load(folder, tmp_path).digest != digest
    for path in folder.iterdir():
        os.utime(path)
    assert load(folder, tmp_path).digest == digest
    memo.write_text('{"torn')
    assert load(folder, tmp_path).digest == digest
    assert len(json.loads(memo.read_text())) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu-dtype.txt", "digests.json", "some-model"]


def test_the_dtype_is_chosen_once(folder: Path, tmp_path: Path) -> None:
    """A pod of one dtype is of no use to the other, so the choice stays even where the other has become faster."""
    dtype = load(folder, tmp_path).shape.dtype
    memo = tmp_path / "cpu-dtype.txt"
    assert memo.read_text() == str(dtype).removeprefix("torch.")
    for name in ("float32", "bfloat16"):
        memo.write_text(name)
        assert load(folder, tmp_path).shape.dtype == getattr(torch, name)
    for damaged in (b"nonsense", b"fl\xc6at32"):
        memo.write_bytes(damaged)
        assert load(folder, tmp_path).shape.dtype in (torch.float32, torch.bfloat16)
        assert memo.read_text() in ("float32", "bfloat16")


def test_auto_without_a_gpu_says_why_and_what_would_be_better(embedded_model_dir: Path) -> None:
    model = load("auto", embedded_model_dir.parent)
    assert model.name == embedded.NAME
    assert "embedded model" in model.why and "no GPU was found" in model.why
    assert any(each.name in model.better for each in loader.READERS)


def test_a_model_runs_on_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loader.select_device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    apple = loader.select_device()
    assert apple.type == "mps" and select_backend(apple, torch.bfloat16)[0] is reference
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loader.select_device().type == "cuda"


def seen_gpu(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> list[str]:
    """A GPU with this much free memory; what is then asked of `_load_any` and `_load_embedded` is noted."""
    asked: list[str] = []

    def load_any(choice: str, memory: Path, say: object, why: str) -> str:
        asked.append(f"{choice}: {why}")
        raise ModelMissing("the hub is silent")

    def load_embedded(memory: Path, say: object, why: str, better: str = "") -> str:
        asked.append(f"embedded: {why}; {better}")
        return "the embedded model"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_bytes, free_bytes))
    monkeypatch.setattr(loader, "_load_any", load_any)
    monkeypatch.setattr(loader, "_load_embedded", load_embedded)
    return asked


def test_auto_with_a_gpu_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = seen_gpu(monkeypatch, free_bytes=4_000_000_000)
    assert load("auto", tmp_path) == "the embedded model"
    assert len(asked) == 1
    assert "only 4.0 GB of GPU memory is free" in asked[0] and loader.GPU_DEFAULT in asked[0]


def test_auto_with_a_gpu_and_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = seen_gpu(monkeypatch, free_bytes=24_000_000_000)
    assert load("auto", tmp_path) == "the embedded model"
    assert asked[0] == f"{loader.GPU_DEFAULT}: chosen because 24 GB of GPU memory is free"
    assert "the hub is silent" in asked[1] and f"{loader.GPU_DEFAULT}" in asked[1]


def test_the_embedded_model(embedded_model_dir: Path) -> None:
    model = load("embedded", embedded_model_dir.parent)
    assert (model.name, model.window) == (embedded.NAME, 8192)
    assert (model.shape.layers, model.shape.kv_heads, model.shape.head_dim) == (30, 3, 64)
    assert model.digest == embedded.SHA256
    end = model.tokenizer.encode_template("<|im_end|>")
    assert model.stop_ids == set(end), "the end of a turn ends an answer"


def test_an_engine_error_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=loader.GPU_DEFAULT) as raised:
        load("nobody", tmp_path)
    assert isinstance(raised.value, ModelRefused) and "path" in raised.value.hint
