"""Measures: how far a compressed pod's predictions are from the exact pod's, and from the truth."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

RESAMPLES = 1000


@dataclass(frozen=True)
class Judged:
    """A question answered under teacher forcing, position by position of its answer.

    `nll` and `kl` (from the exact pod's predictions) are in nats per token, `top1` is the share of positions with the
    same likeliest token as the exact pod, `right` whether every token of the answer was the likeliest. `depth` is where
    the answer stands in the document, and `text` is what kind of text that is, where it is known.
    """

    kind: str
    length: int
    nll: float
    exact_nll: float
    kl: Tensor
    top1: float
    right: bool
    exact_right: bool
    depth: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % bootstrap interval over questions or documents."""

    value: float
    low: float
    high: float


def judge(kind: str, length: int, exact: Tensor, other: Tensor, answer: Sequence[int]) -> Judged:
    """Compare logits (A, V) at the positions that predict the A tokens of an answer."""
    truth = torch.tensor(answer, device=exact.device)
    p, q = exact.double().log_softmax(-1), other.double().log_softmax(-1)
    rows = torch.arange(len(truth), device=exact.device)
    return Judged(
        kind=kind,
        length=length,
        nll=-float(q[rows, truth].mean()),
        exact_nll=-float(p[rows, truth].mean()),
        kl=(p.exp() * (p - q)).sum(-1).clamp_min(0).cpu(),
        top1=float((p.argmax(-1) == q.argmax(-1)).double().mean()),
        right=bool((q.argmax(-1) == truth).all()),
        exact_right=bool((p.argmax(-1) == truth).all()),
    )


def mean(items: Sequence[Judged], value: Callable[[Judged], float], seed: int) -> Mean | None:
    """The mean of a value and its interval, the same for the same seed; None of nothing."""
    if not items:
        return None
    values = [value(each) for each in items]
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Mean(fmean(values), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1])


def quantile(items: Sequence[Judged], share: float) -> float | None:
    """The quantile of the positions' divergences from the exact pod; None of nothing."""
    if not items:
        return None
    ordered = torch.cat([each.kl for each in items]).sort().values
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])
