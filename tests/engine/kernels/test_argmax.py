"""The likeliest token by kernels, against PyTorch's."""

import math

import pytest
import torch
from torch import Tensor

from engine.core import sampling
from engine.kernels import argmax


def chosen(logits: Tensor, by=argmax.greedy) -> tuple[int, int, float]:
    """The token twice, and its log-probability, in places that were poisoned."""
    ids = torch.full((4,), -1, device=logits.device)
    both = torch.full((2,), math.nan, dtype=torch.float64, device=logits.device)
    by(logits, ids, both)
    assert ids[1:].eq(-1).all()
    return int(ids[0]), int(both[0]), float(both[1])


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("count", (1, 7, 1023, 1024, 1025, 5000, 128_256))
def test_against_pytorch(count: int, dtype: torch.dtype, device: torch.device) -> None:
    for seed in range(3 if count < 10_000 else 1):
        logits = (5 * torch.randn(count, generator=torch.Generator().manual_seed(seed))).to(device, dtype)
        token, again, logprob = chosen(logits)
        # PyTorch's sum of so many exponentials in float32 errs more than this one.
        expected = chosen(logits.double(), sampling.greedy)
        assert token == again == expected[0]
        assert logprob == pytest.approx(float(logits.double().log_softmax(0)[token]), abs=3e-6)


def test_the_first_of_several_that_are_alike(device: torch.device) -> None:
    logits = torch.full((6000,), -3.0, device=device)
    for places in ([0], [2047, 2048], [1500, 1501, 5999], [5999]):
        alike = logits.clone()
        alike[places] = 2.0
        assert chosen(alike)[0] == places[0]
    assert chosen(logits) == (0, 0, pytest.approx(-math.log(6000)))


def test_tokens_that_cannot_be(device: torch.device) -> None:
    logits = torch.full((5000,), -math.inf, device=device)
    logits[[3000, 4000]] = torch.tensor([1.0, 2.0], device=device)
    assert chosen(logits) == (4000, 4000, pytest.approx(-math.log1p(math.exp(-1))))
    one = torch.full((5000,), -math.inf, device=device)
    one[4999] = -1e4
    assert chosen(one) == (4999, 4999, 0.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", (math.nan, math.inf, -math.inf))
@pytest.mark.parametrize("everywhere", (False, True))
def test_whatever_the_logits_are_the_token_is_one(bad: float, everywhere: bool, device: torch.device) -> None:
    """On a GPU a place outside the vocabulary would be the end of the process. No such choice looks like a good one."""
    logits = torch.randn(3000, device=device)
    logits[slice(None) if everywhere else slice(1200, 1210)] = bad
    token, _, logprob = chosen(logits)
    assert 0 <= token < 3000
    assert logprob <= 0 if bad == -math.inf and not everywhere else math.isnan(logprob)
