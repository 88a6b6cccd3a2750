"""Keep keys of small norm: they draw the most attention (arXiv 2406.11430)."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores


@dataclass(frozen=True)
class KeyNorm:
    """The smaller a key's norm, the better; norms of different heads do not compare."""

    pooled: bool = False

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """All at once."""
        yield Scores(len(subject.ids), subject.pod.keys.float().norm(dim=-1).neg())
