"""An allowance: how often something may be done."""

from collections.abc import Callable
from time import monotonic


class Allowance:
    """So many a minute, and no more than that at once; a lock is not needed to be about right."""

    def __init__(self, a_minute: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate, self._most, self._clock = a_minute / 60.0, a_minute, clock
        self._left, self._at = a_minute, clock()

    def take(self) -> bool:
        """Whether there is one left, which is then taken."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
