"""Key maps: rotary positions come off and on, what is linear is found, the layers that need their keys keep them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from engine.core.errors import CalibrationFailed, PlanMissing
from engine.core.rope import Angles
from engine.kvcache import key_maps, tensor_file
from engine.kvcache.exact import Pod
from engine.kvcache.key_maps import KeyMaps, value_layers
from engine.kvcache.layout import layout_of
from engine.kvcache.recipe import parse
from engine.kvcache.sharing_plan import SharingPlan
from engine.models import embedded
from engine.models.families.registry import angles_of
from engine.runtime.runner import Runner
from engine.training.sharing import map_fit
from tests.engine.reading import read, runner_of, some_ids
from tests.tiny import llama, qwen3

LAYERS, GROUPS, DIM = 5, 2, 8
ROOTS = (0, 0, 2, 2, 2)
ANGLES = Angles(torch.tensor([1.0, 0.3, 0.1, 0.01]))


def linear_pod(tokens: int, seed: int) -> Pod:
    """A pod whose predicted layers' keys are linear in what they are predicted from, but for their positions."""
    generator, truth = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1)
    bare, values = torch.randn(2, LAYERS, GROUPS, tokens, DIM, generator=generator)
    for layer, root in enumerate(ROOTS):
        if root != layer:
            known = torch.cat([bare[root], *values[[*value_layers(layer)]]]).transpose(0, 1).flatten(1)
            weight = torch.randn(known.shape[1], GROUPS * DIM, generator=truth) / known.shape[1] ** 0.5
            bias = torch.randn(GROUPS * DIM, generator=truth)
            bare[layer] = (known @ weight + bias).unflatten(1, (GROUPS, DIM)).transpose(0, 1)
    positions = torch.arange(tokens)
    return Pod(ANGLES.apply(bare, positions), values, positions, tokens)


def predicted(maps: KeyMaps, pod: Pod, layer: int) -> Tensor:
    values = [pod.values[each] for each in value_layers(layer)]
    return maps.predict(layer, pod.keys[maps.roots[layer]], values, pod.positions)


@pytest.mark.parametrize("scaling", [1.0, 1.3])
def test_positions_are_those_of_transformers(scaling: float) -> None:
    network = llama()
    network.model.rotary_emb.attention_scaling = scaling
    angles = angles_of(network, 16)
    keys, positions = torch.randn(1, 2, 7, 16), torch.tensor([0, 1, 5, 6, 100, 101, 400])
    turned, _ = apply_rotary_pos_emb(keys, keys, *network.model.rotary_emb(keys, positions[None]))
    torch.testing.assert_close(angles.apply(keys, positions), turned, rtol=0, atol=1e-5)
    torch.testing.assert_close(angles.undo(turned, positions), keys, rtol=0, atol=1e-5)


def test_half_turned_heads_are_refused() -> None:
    with pytest.raises(PlanMissing, match="only some channels"):
        angles_of(llama(), 32)


def test_what_is_linear_is_found() -> None:
    maps = KeyMaps(ROOTS, map_fit.fit(ROOTS, [linear_pod(300, 2), linear_pod(200, 3)], ANGLES), ANGLES, {})
    plan = SharingPlan("", "", tuple((root,) for root in maps.roots), {})
    assert maps.weights.keys() == {1, 3, 4} and plan.saving == pytest.approx(0.3)
    fresh = linear_pod(50, 4)
    for layer in maps.weights:
        wanted = fresh.keys[layer]
        assert (predicted(maps, fresh, layer) - wanted).norm() < 0.02 * wanted.norm()
    distant = fresh.select(torch.arange(30, 40))
    torch.testing.assert_close(predicted(maps, distant, 4), predicted(maps, fresh, 4)[:, 30:40])


def test_the_costliest_layers_keep_their_keys() -> None:
    costs = {1: 0.1, 2: 0.5, 3: 0.2, 4: 0.4, 5: 0.3}
    assert map_fit.cheapest_roots(costs, 6, 1 / 12) == (0, 0, 2, 3, 4, 5)
    assert map_fit.cheapest_roots(costs, 6, 0.25) == (0, 0, 2, 2, 4, 4)
    assert map_fit.cheapest_roots(costs, 6, 0.2) == map_fit.cheapest_roots(
        costs, 6, 0.25
    )  # at least what was asked for
    assert map_fit.cheapest_roots(costs, 6, 5 / 12) == (0, 0, 0, 0, 0, 0)
    for none in (0.0, 0.45):
        with pytest.raises(CalibrationFailed, match="layers their keys"):
            map_fit.cheapest_roots(costs, 6, none)


def test_a_layer_costs_what_its_prediction_changes(llama_runner: Runner) -> None:
    """Nothing where the prediction is the truth, something where it is not, whatever the other layers do."""
    layers = llama_runner.model.shape.layers
    ids = some_ids(llama_runner, 400, 0)
    pod = read(llama_runner, ids[:360], 64)
    angles = angles_of(llama_runner.model.network, llama_runner.model.shape.head_dim)
    neighbours = tuple(max(0, layer - 1) for layer in range(layers))
    # Fitted to the very text: 88 far tokens, and more unknowns than that.
    own = map_fit.fit(neighbours, [pod.select(torch.arange(16, 104))], angles)
    trial = map_fit.Trial(pod, ids[360:])
    known = dict(map_fit.costs(llama_runner, KeyMaps(neighbours, own, angles, {}), [trial]))
    nothing = {layer: torch.zeros_like(weight) for layer, weight in own.items()}
    without = dict(map_fit.costs(llama_runner, KeyMaps(neighbours, nothing, angles, {}), [trial]))
    assert known.keys() == {*range(1, layers)} and all(0 <= known[each] < without[each] for each in known)


def test_a_file_comes_back_for_its_model_only(llama_runner: Runner, tmp_path: Path) -> None:
    model = llama_runner.model
    maps = KeyMaps(ROOTS, map_fit.fit(ROOTS, [linear_pod(300, 2)], ANGLES), ANGLES, {"seed": 3})
    path = maps.save(tmp_path, model, 0.3)
    found = key_maps.find(model, 0.3, ANGLES, tmp_path)
    assert found is not None and (found.digest, found.roots, found.facts) == (maps.digest, ROOTS, {"seed": 3})
    assert all(torch.equal(found.weights[layer], maps.weights[layer]) for layer in maps.weights)
    assert key_maps.find(replace(model, digest="e" * 64), 0.3, ANGLES, tmp_path) is None
    assert key_maps.find(model, 0.2, ANGLES, tmp_path) is None
    path.rename(path.with_name(path.name.replace("linear30", "linear20")))
    with pytest.raises(PlanMissing, match="no key maps"):
        layout_of(model, parse("linear30"), [tmp_path])


def test_damaged_maps_are_named(llama_runner: Runner, tmp_path: Path) -> None:
    model = llama_runner.model
    path = KeyMaps(ROOTS, {1: torch.zeros(4, 4)}, ANGLES, {}).save(tmp_path, model, 0.3)
    whole = path.read_bytes()
    for damaged in (b"", whole[:20], whole[:-9], whole.replace(b"docpod", b"podpod")):
        path.write_bytes(damaged)
        with pytest.raises(PlanMissing, match=r"linear30\.safetensors holds no key maps: .*make it anew"):
            key_maps.find(model, 0.3, ANGLES, tmp_path)


def test_what_the_system_refuses_is_told(llama_runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch tells it as an error of its own."""

    def refused(*_: object) -> None:
        raise RuntimeError("unable to open file <linear30.safetensors>: Too many open files (24)")

    KeyMaps(ROOTS, {1: torch.zeros(4, 4)}, ANGLES, {}).save(tmp_path, llama_runner.model, 0.3)
    monkeypatch.setattr(tensor_file, "safe_open", refused)
    with pytest.raises(PlanMissing, match="Too many open files"):
        key_maps.find(llama_runner.model, 0.3, ANGLES, tmp_path)


def test_the_command_makes_maps_that_recipes_find(tiny_model_dir: Path, tmp_path: Path, one_thread: None) -> None:
    text = tmp_path / "texts"
    text.mkdir()
    (text / "a.md").write_text("The lamp was lit, and nobody had seen the porter that day. " * 60)
    said: list[str] = []
    arguments = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--out", str(tmp_path / "maps")]
    arguments += ["--text", str(text), "--samples", "2", "--tokens", "400"]
    map_fit.main([*arguments, "--saving", "0.25", "0.375"], said.append)
    assert sum("without its own keys" in line for line in said) == 3
    assert "linear25" in said[-2] and "0, " in said[-2] and "linear38" in said[-1]
    model = map_fit.loader.load(str(tiny_model_dir), tmp_path, said.append)
    plan = layout_of(model, parse("linear25"), [tmp_path / "maps"])
    assert plan.maps is not None and sum(root[0] == layer for layer, root in enumerate(plan.roots)) == 2
    assert plan.maps.facts["tokens"] == 400


@pytest.mark.parametrize(("arguments", "match"), [(["--tokens", "9000"], "2048 tokens"), (["--saving", "0.5"], "keys")])
def test_what_cannot_be_made_is_said_in_a_sentence(
    tiny_model_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
    arguments: list[str],
    match: str,
) -> None:
    text = tmp_path / "a.md"
    text.write_text("The lamp was lit, and nobody had seen the porter that day. " * 60)
    command = ["--model", str(tiny_model_dir), "--models", str(tmp_path), "--out", str(tmp_path), "--text", str(text)]
    with pytest.raises(SystemExit, match="2"):
        map_fit.main([*command, "--samples", "1", "--tokens", "400", *arguments], lambda line: None)
    assert match in capsys.readouterr().err
    assert not [*tmp_path.glob("*.linear*")]


def test_normed_keys_are_predicted_too(tmp_path: Path) -> None:
    """Qwen3 norms its keys, so that they are linear in nothing; the map is the best there is, and a recipe works."""
    runner = runner_of(qwen3())
    angles = angles_of(runner.model.network, runner.model.shape.head_dim)
    pod = read(runner, some_ids(runner, 500, 1), 100)
    roots = (0, 0, 0, 3)
    maps = KeyMaps(roots, map_fit.fit(roots, [pod], angles), angles, {})
    for layer in (1, 2):
        assert (predicted(maps, pod, layer) - pod.keys[layer]).norm() < 0.7 * pod.keys[layer].norm()


def test_the_embedded_models_maps_ship() -> None:
    with safe_open(key_maps.SHIPPED / f"{embedded.NAME}.{embedded.SHA256[:12]}.linear35.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["docpod"])
        kept = [layer for layer, root in enumerate(facts["roots"]) if root == layer]
        assert facts["digest"] == embedded.SHA256 and len(kept) == 9
        assert {0, 7, 18} <= {*kept} and file.get_tensor("1").shape == (3 * 3 * 64 + 1, 3 * 64)
