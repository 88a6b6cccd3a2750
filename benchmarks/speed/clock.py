"""Seconds of work on a device, by the device's own clock where it has one; and the most memory that was used."""

import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

_PEAK = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


class Clock:
    """A stop watch: `start`, then `seconds` as often as wanted. On a GPU it is made of events, elsewhere of time."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self.start()

    def start(self) -> None:
        """Begin anew, once everything before is done."""
        if self._gpu:
            torch.cuda.synchronize()
            self._event = _event()
            self._event.record()
        self._time = time.perf_counter()

    def seconds(self) -> float:
        """Since the start, until everything that was asked for is done."""
        if not self._gpu:
            return time.perf_counter() - self._time
        stop = _event()
        stop.record()
        torch.cuda.synchronize()
        return float(self._event.elapsed_time(stop)) / 1e3


def median_seconds(device: torch.device, work: Callable[[], object], repeats: int = 5) -> float:
    """Median of several runs, after one that does not count."""
    work()
    clock, seen = Clock(device), []
    for _ in range(repeats):
        clock.start()
        work()
        seen.append(clock.seconds())
    return statistics.median(seen)


def forget_peak(device: torch.device) -> None:
    """Let `peak_gb` begin at what is in use now."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        # Linux forgets the highest mark when a 5 is written here; elsewhere it stays that of the whole run.
        with suppress(OSError):
            _FORGET.write_text("5")


def peak_gb(device: torch.device) -> float:
    """Most memory in use since `forget_peak`, in GB of 1e9 bytes: the tensors on a GPU, or the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    with suppress(OSError):
        for line in _PEAK.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
