"""Drafting: an answer that quotes is guessed from what it quotes, without a second model (prompt lookup decoding).

A guess is fed with the token before it, and the model chooses behind each of these tokens as it would have, one by one:
what it chooses itself is the answer.
"""

from collections.abc import Iterable, Sequence

DRAFTED = 4
"""Tokens that are fed at once: the newest, and three guessed."""


class Drafter:
    """Guesses the tokens behind an answer's last two: those that followed the same two before, in what it may quote or
    in itself."""

    def __init__(self, source: Iterable[int]) -> None:
        """`source`: what may be quoted, nearest last: of several places the last one counts."""
        self._ids = list(source)
        self._behind: dict[tuple[int, int], int] = {}
        """Where the token stands that follows these."""
        self._indexed = 2

    def add(self, token: int) -> None:
        """A token that the answer goes on with."""
        self._ids.append(token)

    def guess(self) -> list[int]:
        """At most DRAFTED - 1 tokens that may come next; none where the last two are new."""
        count = len(self._ids)
        for place in range(self._indexed, count):
            self._behind[self._ids[place - 2], self._ids[place - 1]] = place
        self._indexed = max(self._indexed, count)
        first = self._behind.get((self._ids[-2], self._ids[-1]), count) if count > 1 else count
        return self._ids[first : first + DRAFTED - 1]


def kept(guess: Sequence[int], choices: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """The tokens chosen behind the newest one and behind each of a guess, as far as the guess is right."""
    right = next((place for place, token in enumerate(guess) if token != choices[place][0]), len(guess))
    return choices[: right + 1]
