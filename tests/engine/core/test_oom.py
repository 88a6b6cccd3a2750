"""Shortage: what torch and Python raise where memory is used up, told with numbers; and nothing else."""

import gc
import weakref

import pytest
import torch

from engine.core.errors import EngineError, OutOfMemory
from engine.core.oom import free_bytes, translate_oom

CPU = torch.device("cpu")


def test_the_hosts_own_refusal_is_told_with_its_bytes() -> None:
    """Real: more than any machine has."""
    with pytest.raises(OutOfMemory) as caught, translate_oom(CPU):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert caught.value.needed_bytes == 1 << 60
    assert 0 < caught.value.free_bytes < 1 << 50
    assert isinstance(caught.value, EngineError)


@pytest.mark.parametrize(
    ("error", "needed"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total ..."), 5 << 29),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512 bytes. GPU 0"), 512),
        (torch.OutOfMemoryError("something else was said"), 0),
        (MemoryError(), 0),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), 0),
    ],
)
def test_every_kind_of_refusal_is_told(error: Exception, needed: int) -> None:
    with pytest.raises(OutOfMemory) as caught, translate_oom(CPU):
        raise error
    assert caught.value.needed_bytes == needed and caught.value.free_bytes > 0
    with pytest.raises(OutOfMemory), translate_oom():
        raise error


def test_other_errors_pass() -> None:
    for error in (RuntimeError("expected scalar type Half"), ValueError(), OutOfMemory(1, 2)):
        with pytest.raises(type(error)) as caught, translate_oom(CPU):
            raise error
        assert caught.value is error


def test_what_the_failed_call_held_is_free_again() -> None:
    """Else there would be no more memory for the second try than for the first."""
    held: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    with pytest.raises(OutOfMemory) as caught, translate_oom(CPU):
        work()
    gc.collect()
    assert caught.value.needed_bytes == 1 << 30
    assert held[0]() is None


def test_free_memory_is_between_nothing_and_everything() -> None:
    assert 1 << 20 < free_bytes(CPU) < 1 << 50


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_told() -> None:
    device = torch.device("cuda")
    with pytest.raises(OutOfMemory) as caught, translate_oom(device):
        torch.empty(1 << 45, dtype=torch.uint8, device=device)
    assert caught.value.needed_bytes == 1 << 45
    assert 0 < caught.value.free_bytes <= torch.cuda.get_device_properties(device).total_memory
    before = free_bytes(device)
    kept = torch.empty(1 << 24, dtype=torch.uint8, device=device)
    assert free_bytes(device) <= before - len(kept)
    del kept
    # What PyTorch keeps for later counts as free.
    assert free_bytes(device) == before
