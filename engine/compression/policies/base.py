"""Subject: what a policy may look at, and Scores: what it says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Subject:
    """A section that was read: its token ids, its exact pod, and the model that read it."""

    runner: Runner
    ids: Sequence[int]
    pod: Pod
    seed: int = 0


class Policy(Protocol):
    """A way of scoring."""

    @property
    def pooled(self) -> bool:
        """Whether scores compare between heads, so that heads may keep different numbers of slots."""

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """The scores so far after every piece of work, the whole ones last; goes on from `known` ones."""
