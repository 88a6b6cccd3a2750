"""GGUF files: converted once with every weight and fact, and refused in a sentence where that would not be so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, RopeScalingType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from transformers import PreTrainedModel, Qwen3ForCausalLM

from benchmarks.speed.gguf_file import add_shape
from engine.core.errors import ModelDamaged, ModelMissing, ModelRefused, ModelUnsupported
from engine.models import folder, loader
from tests import tiny

pytestmark = pytest.mark.usefixtures("no_gpu")
Change = Callable[[GGUFWriter], object]


def written(path: Path, network: PreTrainedModel, kind: str = "F32", *changes: Change, named: str = "") -> Path:
    """A tiny model as llama.cpp's converter writes it, with weights of a kind where that has matrices of them."""
    config, architecture = network.config, network.config.model_type
    writer = GGUFWriter(path, named or architecture)
    add_shape(writer, config, config.head_dim)
    known = {number: token for token, number in tiny.tokenizer().get_vocab().items()}
    tokens = [known.get(number, f"<unused {number}>") for number in range(config.vocab_size)]
    # There is no list without an entry.
    tokens[259] = tokens[0] + tokens[1]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * (len(tokens) - 256))
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_chat_template(tiny.CHATML)
    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, weight in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values: Any = weight.float().numpy()
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            # Its two halves of a head's channels are told apart by turns.
            halves = values.reshape(-1, 2, config.head_dim // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        wanted = GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target, name
        writer.add_tensor(target, quantize(values, wanted), raw_dtype=wanted)
    for change in changes:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load(path: Path, models: Path, said: list[str] | None = None) -> loader.Model:
    return loader.load(str(path), models, (said if said is not None else []).append)


@pytest.mark.parametrize(
    ("family", "kind"),
    # What is done with a kind of number does not depend on the family.
    [("llama", "F32"), ("llama", "Q4_0"), ("llama, tied", "Q8_0"), ("qwen2", "F16"), ("qwen3", "Q4_0")],
)
def test_it_is_the_model_that_it_was_made_from(family: str, kind: str, tmp_path: Path) -> None:
    network = getattr(tiny, family.partition(",")[0])()
    if "tied" in family:
        network.config.tie_word_embeddings = True
        network.tie_weights()
    if family == "qwen3":
        # All of them have heads of this size, which their files do not say to transformers.
        network.config.head_dim = 128
        network = Qwen3ForCausalLM(network.config)
    path = written(tmp_path / "Tiny.gguf", network, kind)
    said: list[str] = []
    model = load(path, tmp_path / "models", said)
    assert model.name.startswith("Tiny-") and said[0] == "Converting Tiny.gguf, once."
    loaded = model.network.state_dict()
    for name, weight in network.state_dict().items():
        expected = weight.float().numpy()
        if expected.ndim == 2 and kind != "F32":
            quantized = GGMLQuantizationType[kind]
            expected = dequantize(quantize(expected, quantized), quantized)
        np.testing.assert_array_equal(loaded[name].float(), torch.from_numpy(expected.copy()).bfloat16().float(), name)
    assert model.network.config.rms_norm_eps == pytest.approx(network.config.rms_norm_eps)
    for fact in ("num_hidden_layers", "num_key_value_heads", "rope_parameters", "vocab_size"):
        assert getattr(model.network.config, fact) == getattr(network.config, fact), fact
    text = "Grüße, 世界!\n"
    assert model.tokenizer.encode(text)[0] == tiny.tokenizer().encode(text)
    said.clear()
    assert load(path, tmp_path / "models", said).digest == model.digest and "Converting" not in " ".join(said)
    again = written(path, network, kind, lambda writer: writer.add_description("another"))
    assert load(again, tmp_path / "models").name != model.name


def torn(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def scaled(writer: GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))


def ternary(writer: GGUFWriter) -> None:
    kind = GGMLQuantizationType.TQ1_0
    writer.add_tensor("blk.9.ffn_up.weight", quantize(np.ones((8, 256), np.float32), kind), raw_dtype=kind)


REFUSED: list[tuple[dict[str, Any], type[ModelRefused], str, str]] = [
    ({"named": "gemma3"}, ModelUnsupported, "'gemma3' model; of GGUF, llama, qwen2, qwen3 are read", "made from"),
    ({"change": ternary}, ModelUnsupported, "weights in TQ1_0; of GGUF, F32, F16", "Q4_K_M"),
    ({"change": scaled}, ModelUnsupported, "scales its rotary positions", "made from"),
    (
        {"change": lambda each: each.add_rope_scaling_type(RopeScalingType.YARN)},
        ModelUnsupported,
        "scales its rotary",
        "made from",
    ),
    ({"change": lambda each: each.add_uint16("split.count", 3)}, ModelUnsupported, "one part of several", "--merge"),
]


@pytest.mark.parametrize(("how", "error", "words", "hint"), REFUSED)
def test_what_would_not_be_read_as_it_is_meant_is_refused(
    how: dict[str, Any], error: type[ModelRefused], words: str, hint: str, tmp_path: Path
) -> None:
    changes = [how["change"]] if "change" in how else []
    path = written(tmp_path / "a.gguf", tiny.qwen3(), "F32", *changes, named=how.get("named", ""))
    with pytest.raises(error, match=words) as raised:
        load(path, tmp_path / "models")
    assert hint in raised.value.hint
    assert list((tmp_path / "models").glob("[!.]*/config.json")) == []


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04 not one at all, but long enough to be looked at"])
def test_what_is_no_gguf_file_is_called_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelDamaged, match="no whole GGUF file"):
        load(tmp_path / "a.gguf", tmp_path / "models")


def test_a_torn_one_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match=r"a\.gguf"):
        load(torn(written(tmp_path / "a.gguf", tiny.qwen3())), tmp_path / "models")


def test_weights_that_its_family_does_not_have_are_not_lost(tmp_path: Path) -> None:
    def biased(writer: GGUFWriter) -> None:
        writer.add_tensor("blk.0.attn_q.bias", np.ones(64, np.float32))

    with pytest.raises(ModelDamaged, match="could not be converted: it has 40 weights, and its family 39"):
        load(written(tmp_path / "a.gguf", tiny.llama(), "F32", biased), tmp_path / "models")


def test_one_without_room_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.gguf", tiny.qwen3())
    monkeypatch.setattr(folder, "free_bytes", lambda _: 1000)
    with pytest.raises(ModelRefused, match="of memory, 0"):
        load(path, tmp_path / "models")
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ModelMissing, match="does not fit on the disk"):
        load(path, tmp_path / "models")
