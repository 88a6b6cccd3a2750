"""Key maps: what is linear is found, the file brings it back, and keys of a foreign model are not predicted."""

from dataclasses import replace
from pathlib import Path

import torch

from engine import key_maps
from engine.key_maps import KeyMaps
from engine.sharing import SharingPlan

LAYERS, GROUPS, DIM = 4, 2, 8
PLAN = SharingPlan("a/b", "d" * 64, ((0, 0), (0, 1), (2, 1), (2, 3)), {})
SHARED = {(1, 0): 0, (2, 1): 1, (3, 0): 2}


def keys(tokens: int, seed: int) -> torch.Tensor:
    """Keys (L, G, T, D) whose shared layers are linear in all heads of their root."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(LAYERS, GROUPS, tokens, DIM, generator=generator)
    truth = torch.Generator().manual_seed(1)
    for (layer, head), root in SHARED.items():
        weight, bias = torch.randn(GROUPS * DIM, DIM, generator=truth), torch.randn(DIM, generator=truth)
        made[layer, head] = made[root].transpose(0, 1).flatten(1) @ weight + bias
    return made


def test_what_is_linear_is_found() -> None:
    maps = key_maps.fit(PLAN, [keys(300, 2), keys(200, 3)])
    assert maps.weights.keys() == SHARED.keys()
    fresh = keys(50, 4)
    for (layer, head), root in SHARED.items():
        predicted = maps.predict(layer, head, fresh[root])
        assert predicted.shape == (50, DIM)
        assert (predicted - fresh[layer, head]).norm() < 0.01 * fresh[layer, head].norm()


def test_a_file_comes_back_for_its_model_and_plan_only(tmp_path: Path) -> None:
    maps = key_maps.fit(PLAN, [keys(300, 2)])
    maps.save(tmp_path, PLAN, 0.35)
    found = key_maps.find(PLAN, 0.35, tmp_path)
    assert isinstance(found, KeyMaps) and found.digest == maps.digest
    assert all(torch.equal(found.weights[key], maps.weights[key]) for key in maps.weights)
    for other in ({"digest": "e" * 64}, {"model": "a/c"}, {"roots": ((0, 0), (0, 1), (2, 1), (3, 1))}):
        assert key_maps.find(replace(PLAN, **other), 0.35, tmp_path) is None
    assert key_maps.find(PLAN, 0.2, tmp_path) is None
