"""Subject: what a policy may look at, and Scores: what it says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from engine.pod import Pod
from engine.runner import Runner


@dataclass(frozen=True)
class Subject:
    """A section that was read: its token ids, its exact pod, and the model that read it."""

    runner: Runner
    ids: Sequence[int]
    pod: Pod
    seed: int = 0


@dataclass(frozen=True)
class Scores:
    """How much each slot is worth, (L, G, T) in float32, more is better, once `done` of all tokens have been used."""

    done: int
    values: Tensor


class Policy(Protocol):
    """A way of scoring."""

    @property
    def pooled(self) -> bool:
        """Whether scores compare between heads, so that heads may keep different numbers of slots."""

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """The scores so far after every piece of work, the whole ones last; goes on from `known` ones."""
