"""Durations: how long something took, time after time, as a histogram."""

import threading
from bisect import bisect_left

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""In seconds."""


class Durations:
    """Counts durations by the bounds that they are within. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def note(self, seconds: float) -> None:
        """One more."""
        with self._lock:
            self._counts[bisect_left(BOUNDS, seconds)] += 1
            self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bound with how many were within it, as Prometheus has them."""
        with self._lock:
            counts = list(self._counts)
        names = [*map(str, BOUNDS), "+Inf"]
        return [(name, float(sum(counts[: place + 1]))) for place, name in enumerate(names)]
