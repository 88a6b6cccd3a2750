"""Shortage: memory that is not there, told in the engine's own words; and how much of it is free."""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from engine.errors import OutOfMemory

_UNITS = {"bytes": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_CUDA = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMGT]iB)")
_CPU = re.compile(r"DefaultCPUAllocator: .*you tried to allocate (\d+) bytes", re.DOTALL)
_KIB = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


@contextmanager
def told(device: torch.device) -> Iterator[None]:
    """Turn what torch raises where the device's or the host's memory is used up into OutOfMemory.

    What the failed call held is let go of, so that whoever frees memory and tries again has it too.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        facts = _needed(_CUDA.search(str(error))), free_bytes(device)
        _let_go(error)
        raise OutOfMemory(*facts) from None
    except MemoryError as error:
        _let_go(error)
        raise OutOfMemory(0, free_bytes(torch.device("cpu"))) from None
    except RuntimeError as error:
        # The CPU's allocator has no type of its own.
        found = _CPU.search(str(error))
        if found is None:
            raise
        _let_go(error)
        raise OutOfMemory(int(found[1]), free_bytes(torch.device("cpu"))) from None


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on the device, what PyTorch keeps for itself but does not use included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    with suppress(OSError):
        if found := _KIB.search(Path("/proc/meminfo").read_text()):
            return int(found[1]) << 10
    # Elsewhere the system does not say so plainly; half of all is a careful guess.
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 20
    return pages * (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096) // 2


def _needed(found: re.Match[str] | None) -> int:
    return round(float(found[1]) * 2 ** _UNITS[found[2]]) if found else 0


def _let_go(error: BaseException) -> None:
    """Frames that are done keep their tensors for as long as the error lives."""
    traceback.clear_frames(error.__traceback__)
