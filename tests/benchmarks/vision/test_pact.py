"""PACT against its equations in float64 and by loops; equality where nothing is pruned or merged."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks.vision.image_tokens import ImageTokens, Look, page_tokens
from benchmarks.vision.pact import pact
from tests.benchmarks.vision.models import MODELS, TOKENS, WORDS


@pytest.mark.parametrize("name", MODELS)
def test_without_reduction_it_is_the_model_itself(name: str) -> None:
    seen = MODELS[name]()
    logits, image = seen.read(partial(pact, share=1.0, cutoff=0.0, joins=0.0), 4)
    torch.testing.assert_close(logits, seen.logits, rtol=1e-4, atol=1e-4)
    assert len(image.places) == TOKENS and (image.sizes == 1).all()


@pytest.mark.parametrize("name", MODELS)
def test_fewer_tokens_answer_at_the_same_positions(name: str) -> None:
    seen = MODELS[name](1)
    logits, image = seen.read(partial(pact, cutoff=0.6), 4)
    assert 1 <= len(image.places) < TOKENS and len(logits) == 2 + len(image.places) + WORDS
    assert image.sizes.sum() <= TOKENS and logits.isfinite().all()
    # The words in front of the page do not see it.
    torch.testing.assert_close(logits[:2], seen.logits[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_merged_token_weighs_as_much_as_those_that_it_stands_for(name: str) -> None:
    """Of tokens that are the same, at one position, one with the logarithm of their number says what all do."""
    seen = MODELS[name](2)
    positions = seen.position_ids.clone()
    positions[..., 2 : 2 + TOKENS] = 2
    seen = replace(seen, position_ids=positions)

    def alike(image: ImageTokens, look: Look) -> ImageTokens:
        return replace(image, rows=image.rows[:1].expand_as(image.rows))

    def one(image: ImageTokens, look: Look) -> ImageTokens:
        return replace(image.select(torch.arange(1)), sizes=torch.tensor([float(TOKENS)]))

    (every, _), (merged, _) = seen.read(alike, 5), seen.read(one, 5)
    torch.testing.assert_close(merged[-WORDS:], every[-WORDS:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_it_prunes_and_merges_by_its_equations(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(5, 2 * 8, generator=generator)
    keys = (base[torch.arange(TOKENS) % 5] + 0.4 * torch.randn(TOKENS, 16, generator=generator)).view(TOKENS, 2, 8)
    queries = torch.randn(4, TOKENS, 8, generator=generator)
    image = page_tokens(torch.randn(TOKENS, 32, generator=generator), 7, 4, 4)
    found = pact(image, lambda: (queries, keys.transpose(0, 1)), 0.55, 0.21, 1.5)

    q, k, h = queries.double(), keys.double(), image.rows.double()
    worth = torch.zeros(TOKENS).double()
    for head in range(4):
        mean = sum(q[head, token] for token in range(TOKENS)) / TOKENS
        logits = torch.stack([k[token, head // 2] @ mean / 8**0.5 for token in range(TOKENS)])
        worth += logits.exp() / logits.exp().sum() / 4
    worth = worth * torch.stack([row.norm() for row in h])
    best = sorted(range(TOKENS), key=lambda token: -float(worth[token]))[:9]

    def apart(a: int, b: int) -> float:
        one, other = k[a].flatten(), k[b].flatten()
        return 1 - float(one @ other / one.norm() / other.norm())

    def density(token: int) -> Tensor:
        return sum(torch.tensor(-apart(token, each) / 0.21).exp() for each in best)

    centres: list[int] = []
    for token in sorted(best, key=lambda token: -float(density(token))):
        if all(apart(token, each) > 0.21 for each in centres):
            centres.append(token)
    clusters: dict[int, list[int]] = {centre: [] for centre in sorted(centres)}
    for token in range(TOKENS):
        nearest = min(clusters, key=lambda centre: apart(token, centre))
        if token in best or apart(token, nearest) <= 1.5 * 0.21:
            clusters[nearest].append(token)
    assert found.places.tolist() == [7 + centre for centre in clusters]
    assert found.sizes.tolist() == [len(tokens) for tokens in clusters.values()]
    assert 1 < len(clusters) < 9
    for row, tokens in zip(found.rows, clusters.values(), strict=True):
        torch.testing.assert_close(row.double(), h[tokens].mean(0), rtol=1e-5, atol=1e-5)
