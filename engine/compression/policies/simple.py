"""Policies that need no second reading: by the norm of keys, by age, at random, and none at all."""

from collections.abc import Iterator

import torch

from engine.compression.policies.base import Subject
from engine.kvcache.blocks.scores import Scores


def key_norm(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep keys of small norm, which draw the most attention, alike in all layers: see l2norm for the method."""
    yield Scores(len(subject.ids), subject.pod.keys.float().norm(dim=-1).neg())


def streaming(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep the first tokens, which attention falls back to, and the last (StreamingLLM, arXiv 2309.17453).

    What stays is {0..s-1} and {N-w..N-1}, the same of every layer and head. Defaults: s = 4, w = 2,000 in the authors'
    example. Here s are the recipe's sinks, 16, and w its exact window and the budget; tokens keep the positions that
    they were read at, since a section ends, where a stream would outgrow the window of the model.
    """
    yield Scores(len(subject.ids), subject.pod.positions.float().expand(subject.pod.keys.shape[:3]))


def at_random(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """Keep a random choice, the same every time: the control that every other policy has to beat."""
    values = torch.rand(subject.pod.keys.shape[:3], generator=torch.Generator().manual_seed(0))
    yield Scores(len(subject.ids), values.to(subject.pod.device))


def none(subject: Subject, known: Scores | None) -> Iterator[Scores]:
    """No slot is better than another: for a summary that takes the place of all."""
    yield Scores(len(subject.ids), torch.zeros(subject.pod.keys.shape[:3], device=subject.pod.device))
