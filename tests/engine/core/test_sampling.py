"""How a token is drawn: by whole numbers, the same on every device, whatever the logits are."""

import math

import pytest
import torch
from torch import Tensor

from engine.core.sampling import SamplingParams, draw, generator_of, sample, uniforms


def test_an_answers_numbers_are_those_drawn_one_by_one() -> None:
    params = SamplingParams(max_tokens=200, temperature=1.0, seed=11)
    generator = generator_of(params)
    logits = torch.randn(500, generator=torch.Generator().manual_seed(0))
    warmth, top_p = torch.tensor(params.temperature), torch.tensor(params.top_p)
    for uniform in uniforms(params):
        token, logprob = draw(logits, warmth, top_p, uniform)
        assert sample(logits, params, generator) == (int(token), float(logprob))


def test_a_number_is_a_place_among_the_tokens() -> None:
    """The likeliest first, as far as the one that crosses top_p; the ends of the range stay inside."""
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    almost = 1 - 2.0**-24
    for top_p, expected in (
        (1.0, {0.0: 1, 0.49: 1, 0.51: 3, 0.79: 3, 0.81: 0, 0.94: 0, 0.96: 2, almost: 2}),
        (0.7, {0.0: 1, 0.62: 1, 0.63: 3, almost: 3}),
        (0.3, {0.0: 1, almost: 1}),
    ):
        for uniform, wanted in expected.items():
            token, logprob = draw(logits, torch.tensor(1.0), torch.tensor(top_p), torch.tensor(uniform))
            assert int(token) == wanted
            assert float(logprob) == pytest.approx(float(logits[wanted]), abs=1e-6)


def test_a_token_that_cannot_be_is_never_chosen() -> None:
    logits = torch.full((1000,), -math.inf)
    logits[[7, 500]] = 0.0
    for uniform in (0.0, 0.5, 1 - 2.0**-24):
        token, _ = draw(logits, torch.tensor(1.0), torch.tensor(1.0), torch.tensor(uniform))
        assert int(token) in (7, 500)


@pytest.mark.parametrize("logits", [torch.full((50,), torch.nan), torch.full((50,), torch.inf), torch.randn(50)])
def test_whatever_the_logits_are_the_token_is_one(logits: Tensor) -> None:
    """On a GPU a place outside the vocabulary would not be an error but the end of the process."""
    for uniform in (0.0, 0.5, 1 - 2.0**-24):
        for top_p in (1e-9, 1.0):
            token, _ = draw(logits, torch.tensor(1e-3), torch.tensor(top_p), torch.tensor(uniform))
            assert 0 <= int(token) < 50


@pytest.mark.gpu
def test_devices_choose_the_same_token_for_the_same_number() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(50):
        logits = 3 * torch.randn(32_000, generator=generator)
        numbers = torch.tensor(0.9), torch.tensor(0.95), torch.rand((), generator=generator)
        here, there = draw(logits, *numbers), draw(logits.cuda(), *(each.cuda() for each in numbers))
        assert int(here[0]) == int(there[0]), number
        assert float(here[1]) == pytest.approx(float(there[1]), abs=1e-4)
