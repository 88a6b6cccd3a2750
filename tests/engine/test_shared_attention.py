"""Attention with sharing over whole sequences: against cell by cell, against reading in chunks, and its gradients."""

import pytest
import torch

from engine.layout import Layout
from engine.recipes import parse
from engine.runner import Runner
from engine.shared_attention import SharedAttention
from tests.engine.reading import plain_logits, some_ids
from tests.engine.test_shared_reading import LAYERS, OWN, SHARED, by_hand, layout, sequence

ROOTS = ((0, 0), (0, 1), (0, 1), (3, 1))


def attended(plan: Layout | None, *made: torch.Tensor) -> torch.Tensor:
    """What every layer makes of queries (L, H, T, D), keys and values (L, G, T, D)."""
    memory = SharedAttention(plan)
    return torch.stack([memory.attend(layer, *(part[layer] for part in made), 0.3) for layer in range(LAYERS)])


@pytest.mark.parametrize("mode", "AB")
@pytest.mark.parametrize(("tokens", "sinks", "recent"), ((6, 1, 2), (40, 4, 7), (40, 0, 1)))
def test_against_cell_by_cell(mode: str, tokens: int, sinks: int, recent: int) -> None:
    plan, made = layout(mode, sinks, recent), sequence(tokens)
    torch.testing.assert_close(attended(plan, *made), by_hand(plan, *made))


def test_the_masks_of_figure_2() -> None:
    """n_s = 1, n_r = 2, six tokens: near (n), far (f) or ahead (.), from the gradients that reach each key."""
    plan = layout("A", 1, 2, ((0,) * 2,) * LAYERS)
    drawn = ["n.....", "nn....", "nnn...", "nfnn..", "nffnn.", "nfffnn"]
    queries, keys, values = sequence(6)
    for i in range(6):
        keys = keys.detach().requires_grad_()
        attended(plan, queries, keys, values)[2, :, i].sum().backward()
        own, root = (keys.grad[layer].abs().sum((0, 2)) > 1e-12 for layer in (2, 0))
        # The first token attends itself alone, so that its key does not matter.
        expected = drawn[i] if i else "......"
        assert ["n" if a else "f" if b else "." for a, b in zip(own, root, strict=True)] == list(expected)


@pytest.mark.parametrize("mode", "AB")
def test_nothing_shared_or_nothing_far_is_dense(mode: str) -> None:
    made = sequence(40)
    dense = attended(None, *made)
    torch.testing.assert_close(attended(layout(mode, 4, 7, OWN), *made), dense)
    torch.testing.assert_close(attended(layout(mode, 4, 36), *made), dense)
    assert (attended(layout(mode, 4, 7), *made) - dense).abs().max() > 1e-2


@pytest.mark.parametrize("mode", "AB")
def test_what_far_tokens_are_made_of_can_be_changed(mode: str) -> None:
    """With `distort`, far keys and values are others, in every layer; near ones are not."""
    plan, made = layout(mode, 4, 7), sequence(40)
    memory = SharedAttention(plan, lambda keys, values: (keys * 0.5, values * 2.0))
    out = torch.stack([memory.attend(layer, *(part[layer] for part in made), 0.3) for layer in range(LAYERS)])
    plain = attended(plan, *made)
    torch.testing.assert_close(out[:, :, :11], plain[:, :, :11])
    assert ((out[:, :, 11:] - plain[:, :, 11:]).abs().amax((1, 3)) > 1e-3).all()


def test_a_whole_model_of_every_family(tiny_runner: Runner) -> None:
    """With blocks of one layer, the logits are those of plain transformers."""
    ids = some_ids(tiny_runner, 80, 1)
    own = tuple((layer,) * 2 for layer in range(4))
    plan = Layout(parse("A35s+near4,16"), own)
    with torch.no_grad():
        network = tiny_runner.model.network
        given = {"position_ids": torch.arange(80)[None], "use_cache": False}
        logits = network(input_ids=torch.tensor([ids]), memory=SharedAttention(plan), **given).logits[0]
        shared = network(
            input_ids=torch.tensor([ids]), memory=SharedAttention(Layout(plan.recipe, ROOTS)), **given
        ).logits[0]
    torch.testing.assert_close(logits, plain_logits(tiny_runner, ids), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shared[:20], logits[:20], rtol=1e-3, atol=1e-3)
    assert (shared[20:] - logits[20:]).abs().max() > 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("mode", "AB")
def test_flex_attention_is_the_explicit_one(mode: str) -> None:
    """On a GPU, forward and gradients, in float32."""
    plan = layout(mode, 16, 100, SHARED)
    made = [part.float().cuda().requires_grad_() for part in sequence(512)]
    memory = SharedAttention(plan)
    out = torch.stack([memory.attend(layer, *(part[layer] for part in made), 0.3) for layer in range(LAYERS)])
    expected = by_hand(plan, *(part.detach().cpu().double() for part in made))
    torch.testing.assert_close(out.detach().cpu().double(), expected, rtol=1e-2, atol=1e-2)
    out.square().sum().backward()
    assert all(part.grad.isfinite().all() for part in made)
