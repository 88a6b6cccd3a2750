"""Models that also see: their text model is loaded from the same folder, and says what the whole one does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from engine.core.errors import ModelUnsupported
from engine.models import loader
from engine.models.families import known
from engine.runtime.runner import Runner
from tests import tiny, tiny_families
from tests.engine.reading import ask, read, some_ids

SIGHT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(autouse=True)
def in_float32(no_gpu: None, tmp_path: Path, one_thread: None) -> None:
    (tmp_path / "cpu-dtype.txt").write_text("float32")


def save(folder: Path, whole: str, text: str, tied: bool = True, **facts: object) -> torch.nn.Module:
    """A tiny random model that also sees, with its tokenizer in a folder."""
    config = AutoConfig.for_model(
        whole,
        vision_config={**SIGHT, **({"model_type": "pixtral", "head_dim": 16} if whole == "mistral3" else {})},
        text_config=tiny_families.config(text, tie_word_embeddings=tied).to_dict(),
        tie_word_embeddings=tied,
        **facts,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForImageTextToText.from_config(config).eval()
    network.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return network


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("whole", "text", "facts"),
    [
        ("gemma3", "gemma3_text", {}),
        ("gemma4", "gemma4_text", {"audio_config": None}),
        ("gemma4_unified", "gemma4_unified_text", {"audio_config": None}),
        ("llava", "llama", {}),
        ("mistral3", "ministral3", {}),
        ("mistral3", "mistral", {}),
        ("lfm2_vl", "lfm2", {}),
        ("qwen3_5", "qwen3_5_text", {}),
        ("qwen3_5_moe", "qwen3_5_moe_text", {}),
    ],
)
def test_its_text_model_is_loaded(whole: str, text: str, facts: dict[str, object], tied: bool, tmp_path: Path) -> None:
    folder = tmp_path / "seeing"
    network = save(folder, whole, text, tied, **facts)
    ids = torch.randint(3, 250, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(input_ids=ids, use_cache=False).logits[0, -1]
    model = loader.load(str(folder), tmp_path, print)
    assert model.window == 2048 and model.network.config.model_type == text
    runner = Runner(model)
    logits = ask(runner, [read(runner, ids[0, :40].tolist())], [ids[0, 40:].tolist()])[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert str(folder) in [each.choice for each in known.readers(tmp_path, ())]


def test_weights_in_8_bits_are_unpacked(tmp_path: Path) -> None:
    """As Ministral 3's files have them: codes with a scale each, which are read in full precision from then on."""
    folder = tmp_path / "seeing"
    network = save(folder, "mistral3", "ministral3", tied=False)
    weights, exact = load_file(folder / "model.safetensors"), network.state_dict()
    for name in [name for name in weights if "language_model" in name and name.endswith("_proj.weight")]:
        scale = weights[name].abs().max() / 448
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scale
        exact["model." + name.replace("language_model.model.", "language_model.")].copy_(weights[name].float() * scale)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    packed = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": packed}))
    runner = Runner(loader.load(str(folder), tmp_path, print))
    ids = some_ids(runner, 60, 1)
    with torch.inference_mode():
        expected = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(ask(runner, [read(runner, ids[:40])], [ids[40:]])[0], expected, rtol=0, atol=1e-4)


def test_a_text_model_needs_nothing_that_sight_does(tmp_path: Path) -> None:
    """Gemma 3n sees by a package that need not be there."""
    folder, network = tmp_path / "seeing", tiny_families.build("gemma3n_text")
    AutoConfig.for_model("gemma3n", text_config=network.config.to_dict()).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    weights = {name.replace("model.", "model.language_model.", 1): each for name, each in network.named_parameters()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    runner = Runner(loader.load(str(folder), tmp_path, print))
    ids = some_ids(runner, 60, 1)
    with torch.inference_mode():
        expected = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(ask(runner, [read(runner, ids[:40])], [ids[40:]])[0], expected, rtol=0, atol=1e-4)


def test_another_that_sees_is_refused(tmp_path: Path) -> None:
    """Though its text model is of a family that is read with: how the whole one uses it is not known."""
    folder = tmp_path / "seeing"
    save(folder, "llava", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vipllava"}))
    with pytest.raises(ModelUnsupported, match="'vipllava' model"):
        loader.load(str(folder), tmp_path, print)
    assert str(folder) not in [each.choice for each in known.readers(tmp_path, ())]
