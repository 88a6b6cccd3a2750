"""TieredCache: pods on the device up to one limit, those used longest ago in host memory up to another, then nowhere.

A pod never changes, so a copy in host memory stays good: to take such a pod off the device costs nothing. Where host
memory is the device's own, one tier is all there is.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from engine.core import oom
from engine.kvcache.quantized import AnyPod
from engine.offload.host_copy import HostCopies, HostCopy, held_bytes

log = logging.getLogger(__name__)

DEVICE_SHARE = 0.5
"""Of the device's free memory; the rest is for what is being read, and for answers."""
HOST_SHARE = 0.25
"""Of the free host memory."""


@dataclass
class _Entry:
    pod: AnyPod | None
    num_bytes: int
    parked: "Future[HostCopy] | None" = None


@dataclass(eq=False)
class _Turn:
    """Whose turn it is with a key: there for as long as anybody is at work with it or waits."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0
    forgotten: int = 0
    """How often the key was forgotten since: what somebody began to load before that is not kept."""


class TieredCache:
    """Pods by key, the least recently used first to go. Several threads may use it.

    `parking` is the way to host memory; without one there is the device's tier only.
    """

    def __init__(self, device_bytes: int, host_bytes: int = 0, parking: HostCopies | None = None) -> None:
        self.device_limit = device_bytes
        self.host_limit = host_bytes if parking else 0
        self._parking = parking
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        """How often a pod that was wanted was kept, and was not."""
        self._turns: dict[Hashable, _Turn] = {}
        # One at a time, in the background: a question that takes another pod's place must not wait for the copy.
        self._parker = ThreadPoolExecutor(1, "parking") if parking else None

    def fetch(self, key: Hashable, num_tokens: int, load: Callable[[], AnyPod | None]) -> AnyPod | None:
        """The pod of so many tokens on the device: kept, or loaded once however many threads ask for it.

        A kept pod of another length is an older state of it and goes. One that is forgotten while it loads is given
        back and not kept. Raises OutOfMemory.
        """
        with self._turn(key) as still_wanted:
            pod = self.get(key)
            if pod is None or pod.num_tokens != num_tokens:
                self.misses += 1
                pod = load()
                if pod is not None:
                    self._keep(key, pod, still_wanted)
            return pod

    def get(self, key: Hashable) -> AnyPod | None:
        """The pod on the device, brought back from host memory if it is there; None where it is not kept.

        Raises OutOfMemory.
        """
        with self._turn(key):
            with self._lock:
                entry = self._entries.get(key)
                if entry is None:
                    return None
                self._entries.move_to_end(key)
                self.hits += 1
                if entry.pod is not None:
                    return entry.pod
                parked = entry.parked
            assert parked is not None and self._parking is not None
            if (failure := parked.exception()) is not None:
                log.warning("a pod was not kept in host memory: %s", failure)
                self.forget(key)
                return None
            with oom.translate_oom(self._parking.device):
                pod = self._parking.restore(parked.result())
            with self._lock:
                entry.pod, entry.num_bytes = pod, parked.result().num_bytes
                self._shrink(key)
            return pod

    def put(self, key: Hashable, pod: AnyPod) -> None:
        """Keep a pod that is on the device, in the place of what is kept or being fetched under its key."""
        with self._turn(key) as still_wanted:
            self._keep(key, pod, still_wanted)

    def forget(self, key: Hashable) -> None:
        """Drop a pod from every tier, and whatever is being loaded under its key."""
        with self._lock:
            self._entries.pop(key, None)
            if (turn := self._turns.get(key)) is not None:
                turn.forgotten += 1

    def relieve(self) -> int:
        """Take every pod off the device, to host memory as far as its limit goes; returns the bytes that were held.

        A pod that somebody still uses stays for as long as that takes.
        """
        with self._lock:
            before = self._device_bytes()
            for key in [key for key, entry in self._entries.items() if entry.pod is not None]:
                self._demote(key)
            self._shrink(None)
            moving = [entry.parked for entry in self._entries.values() if entry.parked is not None]
        for each in moving:
            # The copies hold their pods until they are done.
            each.exception()
        if self._parking is not None and self._parking.device.type == "cuda":
            torch.cuda.empty_cache()
        return before

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes held on the device and in host memory."""
        with self._lock:
            return self._device_bytes(), self._host_bytes()

    @property
    def keys(self) -> tuple[list[Hashable], list[Hashable]]:
        """What is on the device and what has a copy in host memory, the least recently used first."""
        with self._lock:
            everything = self._entries.items()
            on_device = [key for key, entry in everything if entry.pod is not None]
            return on_device, [key for key, entry in everything if entry.parked is not None]

    def limit(self, device_bytes: int, host_bytes: int) -> None:
        """Hold no more than this from now on."""
        with self._lock:
            self.device_limit = device_bytes
            self.host_limit = host_bytes if self._parking else 0
            self._shrink()

    def _shrink(self, newest: Hashable = None) -> None:
        """Demote until the limits hold; the newest stays on the device, even alone above the limit."""
        for key in [key for key, entry in self._entries.items() if entry.pod is not None and key != newest]:
            if self._device_bytes() <= self.device_limit:
                break
            self._demote(key)
        # A copy of what is on the device is missed least, and of those the one that stays there longest.
        for wanted in (True, False):
            everything = list(self._entries.items())
            for key, entry in reversed(everything) if wanted else everything:
                if self._host_bytes() <= self.host_limit:
                    return
                if entry.parked is not None and (entry.pod is not None) is wanted:
                    entry.parked = None
                    if entry.pod is None:
                        del self._entries[key]

    def _demote(self, key: Hashable) -> None:
        entry = self._entries[key]
        pod, entry.pod = entry.pod, None
        if entry.parked is None and entry.num_bytes <= self.host_limit and pod is not None:
            assert self._parker is not None and self._parking is not None
            entry.parked = self._parker.submit(self._parking.offload, pod)
        if entry.parked is None:
            del self._entries[key]

    def _device_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self._entries.values() if entry.pod is not None)

    def _host_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self._entries.values() if entry.parked is not None)

    def _keep(self, key: Hashable, pod: AnyPod, still_wanted: Callable[[], bool]) -> None:
        with self._lock:
            if still_wanted():
                self._entries.pop(key, None)
                self._entries[key] = _Entry(pod, held_bytes(pod))
                self._shrink(key)

    @contextmanager
    def _turn(self, key: Hashable) -> Iterator[Callable[[], bool]]:
        """Be the only one at work with a key; whether it was not forgotten since this began."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
            began = turn.forgotten
        try:
            with turn.lock:
                yield lambda: turn.forgotten == began
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]


def tiered_cache(device: torch.device, device_bytes: int = 0, host_bytes: int = 0) -> TieredCache:
    """With the limits that these stand for, as `limits` has it."""
    return TieredCache(*limits(device, device_bytes, host_bytes), HostCopies(device) if device.type == "cuda" else None)


def limits(device: torch.device, device_bytes: int, host_bytes: int) -> tuple[int, int]:
    """Bytes on the device and in host memory; 0 takes a share of what is free now. A CPU has only one."""
    host_bytes = host_bytes or int(HOST_SHARE * oom.free_bytes(torch.device("cpu")))
    if device.type != "cuda":
        return host_bytes, 0
    return device_bytes or int(DEVICE_SHARE * oom.free_bytes(device)), host_bytes
