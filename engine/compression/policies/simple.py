"""Policies that need no second reading: by the norm of keys, by age, and at random."""

from collections.abc import Iterator

import torch

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores


def key_norm(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep keys of small norm: they draw the most attention (arXiv 2406.11430)."""
    yield Scores(len(subject.ids), subject.pod.keys.float().norm(dim=-1).neg())


def streaming(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep the last tokens before the exact ones (StreamingLLM, arXiv 2309.17453): the baseline."""
    yield Scores(len(subject.ids), subject.pod.positions.float().expand(subject.pod.keys.shape[:3]))


def at_random(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep a random choice, the same every time: the control that every other policy has to beat."""
    values = torch.rand(subject.pod.keys.shape[:3], generator=torch.Generator().manual_seed(0))
    yield Scores(len(subject.ids), values.to(subject.pod.device))
