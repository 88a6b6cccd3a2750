"""Quantized weights that are kept: whole or not there, the same numbers again, and no more of them than agreed."""

import os
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.models import loader
from engine.models.weight_cache import WeightCache
from tests import tiny


def kept(folder: Path, digest: str, network: PreTrainedModel, **limits: int) -> WeightCache:
    cache = WeightCache(folder, **{"spare_bytes": 0, **limits})
    cache.keep(digest, network).join()
    return cache


def test_what_is_kept_is_what_it_was(tmp_path: Path) -> None:
    network = tiny.qwen3()
    wanted = {name: each.clone() for name, each in network.state_dict().items()}
    cache = WeightCache(tmp_path / "quantized", spare_bytes=0)
    assert cache.find("abc") is None
    writing = cache.keep("abc", network)
    writing.join()
    found = cache.find("abc")
    assert found is not None and cache.find("other") is None
    again = AutoModelForCausalLM.from_pretrained(found).state_dict()
    assert wanted.keys() == again.keys()
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)
    assert [each.name for each in (tmp_path / "quantized").iterdir()] == ["abc"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "checksums.json"])
def test_damage_is_seen_and_what_is_damaged_goes(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = kept(tmp_path, "abc", tiny.llama())
    path = tmp_path / "abc" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    assert cache.find("abc") is None
    assert "abc are made again" in caplog.text
    assert not (tmp_path / "abc").exists()
    kept(tmp_path, "abc", tiny.llama())
    assert cache.find("abc") is not None


def test_a_file_that_is_missing_is_damage(tmp_path: Path) -> None:
    cache = kept(tmp_path, "abc", tiny.llama())
    (tmp_path / "abc" / "model.safetensors").unlink()
    assert cache.find("abc") is None


def test_the_one_used_longest_ago_makes_room(tmp_path: Path) -> None:
    network = tiny.llama()
    size = sum(each.nbytes for each in network.state_dict().values())
    limits = {"most_bytes": round(2.5 * size)}
    kept(tmp_path, "a", network, **limits)
    cache = kept(tmp_path, "b", network, **limits)
    os.utime(tmp_path / "a", (1000, 1000))
    os.utime(tmp_path / "b", (2000, 2000))
    assert cache.find("a") is not None
    kept(tmp_path, "c", network, **limits)
    assert [cache.find(each) is not None for each in "abc"] == [True, False, True]


def test_nothing_is_kept_where_the_disk_has_no_room(tmp_path: Path) -> None:
    assert kept(tmp_path, "abc", tiny.llama(), spare_bytes=1 << 60).find("abc") is None
    assert kept(tmp_path, "abc", tiny.llama(), most_bytes=1000).find("abc") is None
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_loaded_from_what_is_kept_of_it(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    real = loader._loaded

    def watched(folder: Path, name: str, options: dict[str, object]) -> object:
        loaded.append(folder)
        return real(folder, name, {key: each for key, each in options.items() if key != "quantization_config"})

    monkeypatch.setattr(loader, "_loaded", watched)
    cache = WeightCache(tmp_path, spare_bytes=0)

    def network() -> PreTrainedModel:
        with loader.ThreadPoolExecutor() as beside:
            made = loader._network(tiny_model_dir, "tiny", {}, cache, beside.submit(lambda: "abc"))
        for thread in threading.enumerate():
            if thread.name == "keep-weights":
                thread.join()
        return made

    first, again = network(), network()
    assert loaded == [tiny_model_dir, tmp_path / "abc"]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    # What transformers cannot read any more is made again.
    config = tmp_path / "abc" / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"unheard-of"'))
    checksums = tmp_path / "abc" / "checksums.json"
    checksums.write_text("{}")
    network()
    assert loaded[2:] == [tmp_path / "abc", tiny_model_dir]
