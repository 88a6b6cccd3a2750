"""Subject: what a policy may look at; and Policy: how it scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.kvcache.blocks.scores import Scores
from engine.kvcache.exact import Pod
from engine.runtime.runner import Runner


@dataclass(frozen=True)
class Subject:
    """A section that was read: its token ids, its exact pod, and the model that read it."""

    runner: Runner
    ids: Sequence[int]
    pod: Pod


@dataclass(frozen=True)
class Policy:
    """A way of scoring."""

    score: Callable[[Subject, Scores | None], Iterator[Scores]]
    """The scores so far after every piece of work, the whole ones last; goes on from known ones, if any are given."""
    pooled: bool
    """Whether scores compare between heads, so that heads may keep different numbers of slots."""
