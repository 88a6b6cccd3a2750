"""Blocks of layers: by hand, against the algorithm written out, and for savings that are asked for."""

import pytest
import torch
from torch import Tensor

from engine.core.errors import CalibrationFailed
from engine.training.sharing.blocks import CRITERIA, Roots, by_saving, by_threshold, strengths


def matrix(layers: int, **pairs: float) -> Tensor:
    """Similarity (1, L, L) from pairs such as s01=0.9."""
    similarity = torch.eye(layers)
    for name, value in pairs.items():
        one, other = int(name[1]), int(name[2])
        similarity[one, other] = similarity[other, one] = value
    return similarity[None]


def random_similarity(seed: int, heads: int = 3, layers: int = 9) -> Tensor:
    half = torch.rand(heads, layers, layers, generator=torch.Generator().manual_seed(seed)).tril(-1)
    return half + half.mT + torch.eye(layers)


def written_out(similarity: Tensor, threshold: float, criterion: str) -> Roots:
    """Algorithm 1 as it reads, head by head."""
    columns = []
    for head in similarity:
        blocks = [[0]]
        for layer in range(1, len(head)):
            block = blocks[-1]
            compared = {"root": block[:1], "previous": block[-1:], "block": block}[criterion]
            if min(float(head[other, layer]) for other in compared) >= threshold:
                block.append(layer)
            else:
                blocks.append([layer])
        columns.append([block[0] for block in blocks for _ in block])
    return tuple(zip(*columns, strict=True))


def saving(roots: Roots) -> float:
    shared = [root != layer for layer, row in enumerate(roots) for root in row]
    return sum(shared) / (2 * len(shared))


@pytest.mark.parametrize(
    ("criterion", "roots"), [("root", (0, 0, 0, 3, 3)), ("previous", (0, 0, 2, 2, 2)), ("block", (0, 0, 2, 2, 4))]
)
def test_criteria_by_hand(criterion: str, roots: tuple[int, ...]) -> None:
    """Layer 2 is like the root but unlike layer 1; layer 4 is like layer 3 but unlike layer 2."""
    alike = matrix(5, s01=0.9, s02=0.9, s12=0.2, s03=0.3, s13=0.9, s23=0.9, s04=0.9, s14=0.9, s24=0.1, s34=0.9)
    assert by_threshold(strengths(alike, criterion), 0.5) == tuple((root,) for root in roots)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_blocks_are_those_of_the_algorithm(criterion: str) -> None:
    for seed in range(5):
        alike = random_similarity(seed)
        for threshold in (0.0, 0.1, 0.3, 0.5, 0.9, float(alike[0, 1, 2])):
            assert by_threshold(strengths(alike, criterion), threshold) == written_out(alike, threshold, criterion)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_above_one_every_layer_is_a_block(criterion: str) -> None:
    """Even layers that look just the same: the plan that must equal dense attention."""
    roots = by_threshold(strengths(torch.ones(2, 6, 6), criterion), 1.001)
    assert roots == tuple((layer, layer) for layer in range(6))
    assert by_threshold(strengths(torch.ones(2, 6, 6), criterion), 1) == ((0, 0),) * 6


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_saving_is_met_as_nearly_as_one_threshold_can(criterion: str) -> None:
    for seed in range(5):
        alike = random_similarity(seed)
        strength = strengths(alike, criterion)
        possible = [saving(written_out(alike, float(value), criterion)) for value in [*alike.unique(), 2]]
        for target in (0.05, 0.1, 0.2, 0.35, 0.44):
            roots, threshold = by_saving(strength, target)
            assert abs(saving(roots) - target) == pytest.approx(min(abs(other - target) for other in possible))
            assert by_threshold(strength, threshold) == roots


def test_a_saving_that_can_be_met_is_met() -> None:
    """Without ties, one pair more joins at a time: the roots of all heads come from one threshold."""
    alike = matrix(5, s01=0.9, s12=0.8, s23=0.7, s34=0.6)
    for joined in (1, 2, 3, 4):
        roots, threshold = by_saving(strengths(alike, "previous"), joined / 10)
        assert saving(roots) == joined / 10
        assert threshold == pytest.approx(1 - joined / 10)


def test_savings_that_cannot_be_had_are_refused() -> None:
    strength = strengths(random_similarity(1, layers=4))
    assert saving(by_saving(strength, 0.375)[0]) == 0.375, "one block of four layers in every head"
    with pytest.raises(CalibrationFailed, match=r"37\.5 % of keys and values at most"):
        by_saving(strength, 0.4)
    with pytest.raises(CalibrationFailed, match="exclude fewer"):
        by_saving(strengths(random_similarity(1, layers=4), excluded=2), 0.2)
    for wrong in (0.0, -0.1, 0.5, 35.0, float("nan")):
        with pytest.raises(CalibrationFailed, match="between 0 and 50 %"):
            by_saving(strength, wrong)
    with pytest.raises(CalibrationFailed, match="root, previous"):
        strengths(random_similarity(1), "mean")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_first_layers_can_be_left_alone(criterion: str) -> None:
    roots = by_threshold(strengths(torch.ones(1, 6, 6), criterion, excluded=2), 0.5)
    assert roots == tuple((root,) for root in (0, 1, 2, 2, 2, 2))
