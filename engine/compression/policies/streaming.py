"""Keep the last tokens before the exact ones, and forget the rest (StreamingLLM, arXiv 2309.17453): the baseline."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores


@dataclass(frozen=True)
class Streaming:
    """The later a token, the better."""

    pooled: bool = False

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """All at once."""
        shape = subject.pod.keys.shape[:3]
        yield Scores(len(subject.ids), subject.pod.positions.float().expand(shape))
