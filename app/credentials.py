"""Credentials: passwords and tokens that are kept as digests, and how often somebody may try."""

import hashlib
import secrets
from collections.abc import Callable, Iterable
from hmac import compare_digest
from time import monotonic


class Password:
    """A password by scrypt: slow to guess, and not to be read out of memory."""

    def __init__(self, plain: str, kept: str = "") -> None:
        """One that is chosen now, or the one of which this is `kept`."""
        salt, _, hashed = kept.partition(" ")
        self._salt = bytes.fromhex(salt) or secrets.token_bytes(16)
        self._hashed = bytes.fromhex(hashed) or self._hash(plain)

    @property
    def kept(self) -> str:
        """Salt and hash, in hexadecimal digits."""
        return f"{self._salt.hex()} {self._hashed.hex()}"

    def matches(self, plain: str) -> bool:
        """Compared in constant time."""
        return compare_digest(self._hash(plain), self._hashed)

    def _hash(self, plain: str) -> bytes:
        return hashlib.scrypt(plain.encode(), salt=self._salt, n=2**14, r=8, p=1)


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


def digest(token: str) -> str:
    """What is kept of a random token; equal tokens have equal ones."""
    return hashlib.sha256(token.encode()).hexdigest()


def equal_digest(token: str, known: Iterable[str]) -> str:
    """The one of the known digests that is the token's, compared in constant time; "" where none is."""
    of_token = digest(token)
    return next(iter([each for each in known if compare_digest(each, of_token)]), "")
