"""Folders with a LoRA adapter are merged with their base, once, or refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.core.errors import ModelDamaged, ModelMissing, ModelRefused, ModelUnsupported
from engine.models import loader
from engine.models.families import lora_folder
from engine.runtime.runner import Runner
from tests import tiny, tiny_families
from tests.engine.reading import ask, read


@pytest.fixture(autouse=True)
def in_float32(no_gpu: None, tmp_path: Path, one_thread: None) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "cpu-dtype.txt").write_text("float32")


def load(choice: Path, tmp_path: Path, said: list[str] | None = None) -> loader.Model:
    return loader.load(str(choice), tmp_path / "models", (said if said is not None else []).append)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder that says it is an adapter, whose base is nowhere."""
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "/nowhere"})
    )
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    return folder


# Of peft's own making, under this transformers.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", ["llama", "qwen3_5_text"])
def test_an_adapter_is_read_with_as_peft_would(family: str, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    base, folder = tmp_path / "base", tmp_path / "tuned"
    network: Any = tiny.llama() if family == "llama" else tiny_families.build(family)
    network.save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    facts = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapted = peft.get_peft_model(network, facts).eval()
    adapted.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "../base"}))
    ids = torch.randint(3, 250, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = adapted(input_ids=ids, use_cache=False).logits[0, -1]
        with adapted.disable_adapter():
            plain = adapted(input_ids=ids, use_cache=False).logits[0, -1]
    said: list[str] = []
    runner = Runner(model := load(folder, tmp_path, said))
    assert said[0] == "Merging tuned into base, once." and model.name.startswith("tuned-")
    logits = ask(runner, [read(runner, ids[0, :40].tolist())], [ids[0, 40:].tolist()])[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert (plain - expected).abs().max() > 0.1
    said.clear()
    assert load(folder, tmp_path, said).digest == model.digest and "Merging" not in " ".join(said)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name.replace("layers.1.", "layers.9."): each for name, each in weights.items()}, folder / "more")
    (folder / "more").rename(folder / "adapter_model.safetensors")
    with pytest.raises(ModelDamaged, match="other layers"):
        load(folder, tmp_path)


@pytest.mark.parametrize(
    ("config", "error", "words", "hint"),
    [
        ({}, ModelMissing, "was made for /nowhere, which is not here", "base_model_name_or_path"),
        ({"peft_type": "IA3"}, ModelUnsupported, "of the kind IA3", "merge_and_unload"),
        ({"base_model_name_or_path": None, "peft_type": None}, ModelUnsupported, "of the kind None", "Merge it"),
        ([], ModelDamaged, "names no base", ""),
    ],
)
def test_what_cannot_be_merged_is_refused(
    config: Any, error: type[ModelRefused], words: str, hint: str, bare: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(lora_folder, "find_spec", lambda name: name)
    path = bare / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config} if isinstance(config, dict) else config))
    with pytest.raises(error, match=words) as raised:
        load(bare, tmp_path)
    assert hint in raised.value.hint


def test_without_peft_it_is_said_how(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_folder, "find_spec", lambda name: None)
    with pytest.raises(ModelUnsupported, match="peft, which merges it into its base, is not installed") as raised:
        load(bare, tmp_path)
    assert "pip install 'docpod[lora]'" in raised.value.hint and "merge_and_unload" in raised.value.hint
