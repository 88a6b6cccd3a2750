"""Keep a random choice: the control that every other policy has to beat."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores


@dataclass(frozen=True)
class RandomPolicy:
    """Every slot of every head by itself, the same for the same seed."""

    pooled: bool = True

    def score(self, subject: Subject, known: Scores | None = None) -> Iterator[Scores]:
        """All at once."""
        generator = torch.Generator().manual_seed(subject.seed)
        values = torch.rand(subject.pod.keys.shape[:3], generator=generator)
        yield Scores(len(subject.ids), values.to(subject.pod.device))
