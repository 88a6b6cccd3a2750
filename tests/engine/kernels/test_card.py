"""Where Triton's kernels may run, and why not elsewhere; the same answer for answers, rotation and quantizing."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from engine.attention.rotation import TorchRotation, select_rotation
from engine.core import quant
from engine.kernels import card
from engine.kernels.card import INTERPRETED, Card, card_of, why_not_triton
from engine.kvcache import quantized_store

GPU = torch.device("cuda")


@pytest.fixture
def some_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As if a Hopper GPU were here, with Triton."""
    found = SimpleNamespace(major=9, minor=0, shared_memory_per_block_optin=232_448)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(card.importlib.util, "find_spec", lambda name: object())
    card_of.cache_clear()
    yield monkeypatch
    card_of.cache_clear()


@pytest.mark.parametrize(
    ("device", "why"),
    [("cpu", "NVIDIA GPU, and this runs on cpu"), ("mps", "NVIDIA GPU, and this runs on mps")],
)
def test_other_devices_go_without(device: str, why: str) -> None:
    assert why in why_not_triton(torch.device(device))
    assert card_of(torch.device(device)) == INTERPRETED and not INTERPRETED.ptx and not INTERPRETED.pdl


def test_a_card_says_what_it_can(some_gpu: pytest.MonkeyPatch) -> None:
    assert why_not_triton(GPU) == ""
    assert card_of(GPU) == Card((9, 0), 232_448)
    assert card_of(GPU).ptx and card_of(GPU).pdl and not Card((8, 9), 101_376).pdl


def test_without_triton_an_old_card_or_rocm_everything_goes_without(some_gpu: pytest.MonkeyPatch) -> None:
    some_gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "8.0" in why_not_triton(GPU) and "7.5" in why_not_triton(GPU)
    some_gpu.setattr(card.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in why_not_triton(GPU)
    some_gpu.setattr(torch.version, "hip", "6.4")
    assert "ROCm" in why_not_triton(GPU)
    assert isinstance(select_rotation(GPU, torch.bfloat16), TorchRotation)
    assert quantized_store._codec(GPU) is quant
    card_of.cache_clear()
    assert card_of(GPU) == INTERPRETED
