"""How far a student is from its teacher on one sequence, with gradients, in pieces that fit the memory."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.training.student import Student

PIECE_TOKENS = 1024
"""Positions whose logits exist at once: 1024 of a vocabulary of 49,152 are 0.2 GB in float32."""


@dataclass(frozen=True)
class Distance:
    """Means over the positions of a sequence, as tensors of one number each.

    `kl`: KL(teacher || student) in nats; `ce` and `teacher_ce`: next-token cross entropy of both in nats;
    `agreement`: share of positions where both like the same token best.
    """

    kl: Tensor
    ce: Tensor
    teacher_ce: Tensor
    agreement: Tensor


def distance(student: Student, learned: Tensor, taught: Tensor, targets: Tensor, piece: int = PIECE_TOKENS) -> Distance:
    """Compare hidden states (T,E) of both; `targets` (T,) are the tokens that follow. Pieces are made again for the
    gradients, so that the logits (T,V) never exist at once.
    """

    def sums(learned: Tensor, taught: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            expected = student.taught_logits(taught).log_softmax(-1)
        guessed = student.logits(learned).log_softmax(-1)
        kl = (expected.exp() * (expected - guessed)).sum()
        ce, teacher_ce = (-rows.gather(1, targets[:, None]).sum() for rows in (guessed, expected))
        return torch.stack([kl, ce, teacher_ce, (expected.argmax(-1) == guessed.argmax(-1)).float().sum()])

    total = torch.zeros(4, device=learned.device)
    for start in range(0, len(targets), piece):
        parts = (part[start : start + piece] for part in (learned, taught, targets))
        total = total + checkpoint(sums, *parts, use_reentrant=False, preserve_rng_state=False)
    return Distance(*(total / len(targets)).unbind())
