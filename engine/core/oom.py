"""Out of memory: memory that is not there, told in the engine's own words; and how much of it is free."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from engine.core.errors import OutOfMemory

_UNITS = {"bytes": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_CUDA = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMGT]iB)")
_CPU = re.compile(r"DefaultCPUAllocator: .*you tried to allocate (\d+) bytes", re.DOTALL)
_PINNED = "CUDA error: out of memory"
_KIB = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


@contextmanager
def translate_oom(device: torch.device | None = None) -> Iterator[None]:
    """Turn what torch raises where the device's or the host's memory is used up into OutOfMemory.

    Without a device it is the GPU, if there is one. What the failed call held is let go of, so that whoever frees
    memory and tries again has it too.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        facts = _facts(error, device)
        if facts is None:
            raise
        # Frames that are done keep their tensors for as long as the error lives.
        traceback.clear_frames(error.__traceback__)
        raise OutOfMemory(*facts) from None


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had on the device, what PyTorch keeps for itself but does not use included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    with suppress(OSError):
        if found := _KIB.search(Path("/proc/meminfo").read_text()):
            return min(int(found[1]) << 10, _allowed_bytes())
    # Elsewhere the system does not say so plainly; half of all is a careful guess.
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 20
    return pages * (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096) // 2


def _allowed_bytes() -> int:
    """What a container may still take; without a limit, more than there is."""
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())
        return max(0, limit - int((group / "memory.current").read_text()))
    return sys.maxsize


def _facts(error: Exception, device: torch.device | None) -> tuple[int, int] | None:
    """Bytes needed and free; None where the error is about something else."""
    said = str(error)
    host = torch.device("cpu")
    if isinstance(error, torch.OutOfMemoryError):
        found = _CUDA.search(said)
        needed = round(float(found[1]) * 2 ** _UNITS[found[2]]) if found else 0
        return needed, free_bytes(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if isinstance(error, MemoryError):
        return 0, free_bytes(host)
    # The allocators of host memory have no type of their own.
    if found := _CPU.search(said):
        return int(found[1]), free_bytes(host)
    return (0, free_bytes(host)) if _PINNED in said else None
