"""What decides the outcome of a post-training: its settings, and when it stops."""

import math
from dataclasses import dataclass

LAST_RATE = 0.05
"""Where the cosine ends, as a share of the highest learning rate."""


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the outcome of a post-training. `mode`: A, B or linear, or `dense` for a control without sharing."""

    mode: str = "A"
    sinks: int = 16
    recent: int = 256
    rank: int = 32
    scale: float = 2.0
    all_weights: bool = False
    length: int = 8192
    sequences: int = 2
    """Sequences a step; their gradients are added up one after the other."""
    asked: int = 0
    """Tokens at the end of a sequence that ask what the dense model has read before them: only there sharing acts, and
    only there the loss counts, as where keys are dropped once a document is read. 0: sharing acts on every token, as
    in the paper."""
    learning_rate: float = 0.0
    """0: 1e-3 for low-rank weights, 2e-4 for all weights."""
    warm_up: int = 20
    ce_weight: float = 0.1
    recall_share: float = 0.15
    rounded: str = "exact"
    """The recipe whose bits distant keys and values are rounded to."""
    seed: int = 0

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (2e-4 if self.all_weights else 1e-3)


@dataclass(frozen=True)
class Limits:
    """When to stop: after so many seconds of steps, or after so many steps, whichever comes first (0: no limit)."""

    seconds: float = 90.0
    steps: int = 0

    def used(self, seconds: float, steps: int) -> float:
        """The share of the limit that is used, 1.0 at its end."""
        shares = (seconds / self.seconds if self.seconds else 0.0, steps / self.steps if self.steps else 0.0)
        return min(1.0, max(shares))

    def rate(self, settings: TrainingSettings, seconds: float, steps: int) -> float:
        """The learning rate of the step that comes next: a linear warm-up in steps, a cosine in what is used."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.used(seconds, steps)))
        rise = min(1.0, (steps + 1) / settings.warm_up) if settings.warm_up else 1.0
        return settings.rate * rise * (LAST_RATE + (1 - LAST_RATE) * cosine)
