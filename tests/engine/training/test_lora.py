"""Low-rank additions do what their formula says, can be taken off, merged and kept, and refuse what they do not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.runtime.runner import Runner
from engine.training import adapter, lora
from engine.training.adapter import Adapter
from engine.training.errors import AdapterMismatch
from engine.training.lora import LowRank
from tests import tiny
from tests.engine.reading import plain_logits, runner_of, some_ids

RANK = 4
SCALE = 2.0
FLOAT32 = {"rtol": 0.0, "atol": 1e-4}


def some_weights(runner: Runner, seed: int = 1) -> dict[str, Tensor]:
    """Additions as training might leave them: about a tenth of the weights."""
    torch.manual_seed(seed)
    weights = lora.fresh(runner.model.network, RANK, seed)
    return {
        name: weight if name.endswith("down") else 0.02 * torch.randn_like(weight) for name, weight in weights.items()
    }


def an_adapter(runner: Runner, digest: str = "0" * 64) -> Adapter:
    """A low-rank adapter of a runner's network."""
    roots = ((0, 0), (0, 1), (2, 1), (2, 1))
    facts = {"steps": 3, "curve": [[1, 0.5, 2.0, 0.7]]}
    weights = some_weights(runner)
    return Adapter("low-rank", "tiny", digest, "A", roots, 16, 256, RANK, SCALE, facts, weights)


def test_fresh_additions_change_nothing(tiny_runner: Runner) -> None:
    ids = some_ids(tiny_runner, 40, 0)
    before = plain_logits(tiny_runner, ids)
    LowRank(tiny_runner.model.network, lora.fresh(tiny_runner.model.network, RANK, 0), SCALE)
    assert torch.equal(plain_logits(tiny_runner, ids), before)


def test_additions_are_those_of_the_formula(tiny_runner: Runner) -> None:
    """Against the same network in float64 whose weights are changed by hand."""
    network, ids = tiny_runner.model.network, some_ids(tiny_runner, 40, 0)
    weights = some_weights(tiny_runner)
    by_hand = runner_of(type(network)(network.config).double().eval())
    by_hand.model.network.load_state_dict({name: weight.double() for name, weight in network.state_dict().items()})
    names = {name.rpartition(".")[0] for name in weights}
    assert len(names) >= 4
    for name in names:
        weight = by_hand.model.network.get_submodule(name).weight
        with torch.no_grad():
            weight += SCALE * weights[f"{name}.up"].double() @ weights[f"{name}.down"].double()
    before = plain_logits(tiny_runner, ids)
    LowRank(network, weights, SCALE)
    hooked = plain_logits(tiny_runner, ids)
    torch.testing.assert_close(hooked, plain_logits(by_hand, ids).float(), **FLOAT32)
    assert (hooked - before).abs().max() > 0.1


def test_merged_weights_act_like_hooks(tiny_runner: Runner) -> None:
    ids = some_ids(tiny_runner, 40, 0)
    additions = LowRank(tiny_runner.model.network, some_weights(tiny_runner), SCALE)
    hooked = plain_logits(tiny_runner, ids)
    additions.merge()
    additions.enabled = False
    torch.testing.assert_close(plain_logits(tiny_runner, ids), hooked, **FLOAT32)


def test_off_and_removed_give_the_network_back(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, 40, 0)
    before = plain_logits(llama_runner, ids)
    additions = LowRank(llama_runner.model.network, some_weights(llama_runner), SCALE)
    with additions.off():
        assert torch.equal(plain_logits(llama_runner, ids), before)
    assert not torch.equal(plain_logits(llama_runner, ids), before)
    additions.remove()
    assert torch.equal(plain_logits(llama_runner, ids), before)


def test_weights_that_are_not_floating_point_are_not_merged_into(llama_runner: Runner) -> None:
    network = llama_runner.model.network
    additions = LowRank(network, some_weights(llama_runner), SCALE)
    kept = network.model.layers[0].self_attn.q_proj.weight.clone()
    last = network.model.layers[-1].self_attn.o_proj
    last.weight = torch.nn.Parameter(last.weight.to(torch.uint8), requires_grad=False)
    with pytest.raises(AdapterMismatch, match="uint8"):
        additions.merge()
    assert torch.equal(network.model.layers[0].self_attn.q_proj.weight, kept)


def test_an_adapter_comes_back_from_its_file(llama_runner: Runner, tmp_path: Path) -> None:
    made = an_adapter(llama_runner)
    found = adapter.load(made.save(tmp_path / "folder" / "tiny.A30.safetensors"))
    assert replace(found, weights={}, digest="") == replace(made, weights={})
    assert {name: weight.tolist() for name, weight in found.weights.items()} == {
        name: weight.tolist() for name, weight in made.weights.items()
    }
    assert len(found.digest) == 64
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["tiny.A30.safetensors"]
    other = adapter.load(replace(made, scale=1.0).save(tmp_path / "other.safetensors"))
    assert other.digest != found.digest


def test_an_applied_file_acts_like_what_was_trained(llama_runner: Runner, tmp_path: Path) -> None:
    ids = some_ids(llama_runner, 40, 0)
    made = an_adapter(llama_runner)
    additions = LowRank(llama_runner.model.network, made.weights, SCALE)
    trained = plain_logits(llama_runner, ids)
    additions.remove()
    adapter.apply(adapter.load(made.save(tmp_path / "a.safetensors")), llama_runner.model.network, "0" * 64)
    assert torch.equal(plain_logits(llama_runner, ids), trained)


def test_an_adapter_of_all_weights_replaces_them(llama_runner: Runner, tmp_path: Path) -> None:
    ids = some_ids(llama_runner, 40, 0)
    trained = runner_of(tiny.llama())
    with torch.no_grad():
        for weight in trained.model.network.parameters():
            weight *= 1.1
    weights = dict(trained.model.network.named_parameters())
    made = replace(an_adapter(llama_runner), kind="all-weights", weights=weights)
    assert adapter.apply(adapter.load(made.save(tmp_path / "a")), llama_runner.model.network, "0" * 64) is None
    assert torch.equal(plain_logits(llama_runner, ids), plain_logits(trained, ids))
    few = replace(made, weights={"lm_head.weight": weights["lm_head.weight"]})
    with pytest.raises(AdapterMismatch, match="do not fit"):
        adapter.apply(few, llama_runner.model.network, "0" * 64)


def test_an_adapter_of_another_model_is_refused(llama_runner: Runner) -> None:
    ids = some_ids(llama_runner, 40, 0)
    before = plain_logits(llama_runner, ids)
    with pytest.raises(AdapterMismatch, match="post-train it again"):
        adapter.apply(an_adapter(llama_runner, digest="f" * 64), llama_runner.model.network, "0" * 64)
    assert torch.equal(plain_logits(llama_runner, ids), before)


def test_weights_that_do_not_fit_are_refused(llama_runner: Runner) -> None:
    network, weights = llama_runner.model.network, some_weights(llama_runner)
    name = "model.layers.1.self_attn.k_proj.up"
    with pytest.raises(AdapterMismatch, match=r"layers\.1\.self_attn\.k_proj"):
        LowRank(network, {**weights, name: weights[name][:-1]}, SCALE)
    with pytest.raises(AdapterMismatch, match="takes 32"):
        LowRank(network, {key: weight for key, weight in weights.items() if key != name}, SCALE)
    with pytest.raises(AdapterMismatch, match="no projections"):
        LowRank(torch.nn.Linear(2, 2), {}, SCALE)


@pytest.mark.parametrize("damage", ["cut", "text", "absent", "no facts", "kind"])
def test_a_damaged_file_is_refused(llama_runner: Runner, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.safetensors"
    an_adapter(llama_runner).save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "text":
        path.write_text("no adapter")
    elif damage == "absent":
        path.unlink()
    elif damage == "no facts":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    else:
        replace(an_adapter(llama_runner), kind="other").save(path)
    with pytest.raises(AdapterMismatch, match=r"a\.safetensors"):
        adapter.load(path)
