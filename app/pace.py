"""Pace: how fast this machine reads, measured chunk by chunk: how long the rest takes, and how long a chunk may be."""

import threading

CHUNK_SECONDS = 0.6
"""What a chunk may take where questions wait for its end: a question's first words come a little later."""
LEAST_TOKENS = 64
"""Chunks are multiples of this."""
_KEPT = 0.95
"""Of what was measured before, with every chunk: about the last twenty count."""


class Pace:
    """Seconds of reading, from what was measured last. A token costs the more the more tokens stand before it.

    Several threads may use it.
    """

    def __init__(self, doubles_at: float, tokens: int, seconds: float) -> None:
        """`doubles_at`: position at which a token costs twice what the first one does. A first guess is made from
        some tokens at the beginning of a text, which took so many seconds.
        """
        self._doubles_at = doubles_at
        self._lock = threading.Lock()
        self._guessed = True
        self._tokens, self._work, self._seconds = float(tokens), self._cost(0, tokens), seconds

    @property
    def tokens_per_second(self) -> float:
        """Of the last chunks."""
        with self._lock:
            return self._tokens / self._seconds

    @property
    def guess(self) -> tuple[float, int, float]:
        """What another one can be made from, that begins with what was measured here."""
        return self._doubles_at, LEAST_TOKENS, self.seconds(0, LEAST_TOKENS)

    def note(self, start: int, stop: int, seconds: float) -> None:
        """Tokens `start` to `stop` of a section were read in so many seconds."""
        with self._lock:
            kept = 0.0 if self._guessed else _KEPT
            self._guessed = False
            self._tokens = kept * self._tokens + stop - start
            self._work = kept * self._work + self._cost(start, stop)
            self._seconds = kept * self._seconds + max(seconds, 1e-6)

    def seconds(self, start: int, stop: int) -> float:
        """About how long reading tokens `start` to `stop` of a section takes."""
        with self._lock:
            return self._cost(start, stop) * self._seconds / self._work

    def chunk(self, start: int, most: int) -> int:
        """Tokens from `start` of a section on that take CHUNK_SECONDS, at most `most`."""
        fitting = int(LEAST_TOKENS * CHUNK_SECONDS / self.seconds(start, start + LEAST_TOKENS))
        return max(LEAST_TOKENS, min(most, fitting // LEAST_TOKENS * LEAST_TOKENS))

    def _cost(self, start: int, stop: int) -> float:
        """In tokens that have none before them."""
        return (stop - start) * (1.0 + (start + stop) / 2 / self._doubles_at)
