"""Attention over pods and a tail by kernels, against engine.runtime.context in float32, which is the specification."""

import pytest
import torch

from engine.runtime.kv_table import KVTable
from tests.engine.kernels import reference_attention, reference_rope
from tests.engine.kernels.pods import Conversation, model, pod

UGLY = [
    # recipe, tokens, KV heads, query heads each, head dim, new tokens a step
    ("exact", 1, 2, 2, 64, (1, 1)),
    ("exact", 63, 1, 8, 128, (2, 1)),
    ("exact", 111, 2, 1, 96, (5, 1)),
    ("exact", 1000, 1, 4, 256, (1, 2)),
    ("exact", 4097, 1, 2, 64, (1,)),
    ("k16v16+keep40:random", 300, 2, 2, 64, (1, 2)),
    ("k8v8", 111, 2, 1, 64, (1,)),
    ("k8v8h", 1000, 1, 4, 128, (2,)),
    ("k4v4", 63, 2, 4, 64, (1, 5)),
    ("k4v4h", 111, 1, 8, 128, (1, 1)),
    ("k4v4h", 4097, 1, 4, 64, (1,)),
    ("k4v4", 1000, 1, 2, 96, (5,)),
    ("k4v4h", 200, 1, 2, 256, (1,)),
    ("k2v2", 111, 2, 2, 64, (1,)),
    ("k2v2h", 150, 1, 4, 128, (2,)),
    ("k3v3h", 111, 1, 1, 96, (1,)),
    ("k3v3", 164, 1, 4, 128, (1,)),
    ("k4v3", 111, 1, 2, 256, (1,)),
    ("k16v4h", 130, 2, 2, 64, (1,)),
    ("k4v16", 130, 1, 2, 128, (1,)),
    ("keep40:random+k4v4h", 500, 3, 2, 64, (2,)),
    ("keep40:norm+k8v4", 300, 2, 2, 64, (1,)),
    ("A35", 150, 2, 2, 64, (1, 2)),
    ("A35+k4v4h", 150, 2, 2, 64, (2, 1)),
    ("B35+k8v8", 150, 2, 2, 64, (1,)),
    ("A35+keep40:random+k4v3", 300, 2, 2, 64, (1,)),
    ("B35+keep40:random+k4v4h", 300, 2, 2, 64, (1,)),
]


@pytest.mark.parametrize(("recipe", "tokens", "groups", "share", "dim", "steps"), UGLY)
def test_ugly_shapes(recipe, tokens, groups, share, dim, steps, device: torch.device) -> None:
    of = model(groups, share, dim, torch.float32, device)
    talk = Conversation(of, [pod(of, recipe, tokens)])
    for count in steps:
        got, _, truth = talk.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ("exact", "k8v8h", "k4v4h", "k2v3"))
def test_half_precision_errs_no_more_than_twice_plain_attention(recipe: str, device: torch.device) -> None:
    # The interpreter has no products of bfloat16.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
    of = model(1, 2, 128, dtype, device)
    talk = Conversation(of, [pod(of, recipe, 300)])
    for count in (1, 2):
        got, plain, truth = talk.step(count)
        assert got.dtype == dtype
        assert (got.float() - truth).norm() <= 2 * (plain.float() - truth).norm()
        assert (got.float() - truth).abs().max() <= 2 * (plain.float() - truth).abs().max()


@pytest.mark.parametrize(
    "recipe", ["k4v4h", *(pytest.param(each, marks=pytest.mark.slow) for each in ("k8v8", "k4v4", "k3v3", "k2v2"))]
)
def test_keys_of_large_channels(recipe: str, device: torch.device) -> None:
    """Zero points far from zero, for few and for many rows of queries."""
    for dtype, most in ((torch.float32, 1e-4), (torch.bfloat16 if device.type == "cuda" else torch.float16, 5e-3)):
        of = model(1, 4, 128, dtype, device)
        talk = Conversation(of, [pod(of, recipe, 300, offsets=(6.0, -20.0, 50.0, 0.0, -50.0, 30.0))])
        for count in (1, 4, 9):
            got, _, truth = talk.step(count)
            assert (got.float() - truth).norm() <= most * truth.norm()


def test_several_pods_of_several_formats(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    kinds = (("k4v4h", 111), ("exact", 70), ("k8v8", 200), ("k4v4h", 90), ("A35+k4v4", 100))
    talk = Conversation(of, [pod(of, *each) for each in kinds])
    for count in (3, 1):
        got, _, truth = talk.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_a_question_of_many_tokens_and_a_long_tail(device: torch.device) -> None:
    """More rows than one program takes, and a tail of more pieces than one, grown over its seam."""
    of = model(1, 4, 64, torch.float32, device)
    talk = Conversation(of, [pod(of, "k4v4h", 70)], capacity=300)
    talk.put(251)
    for count in (2, 12, 1):
        got, _, truth = talk.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_nothing_but_a_tail(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    talk = Conversation(of, [])
    for count in (1, 3):
        got, _, truth = talk.step(count)
        torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_the_plain_functions_say_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands beside the kernels as their specification agrees with engine.runtime.context, too."""
    monkeypatch.setattr("engine.runtime.kv_table.rope_append", reference_rope)
    monkeypatch.setattr("engine.runtime.kv_table.split_kv", reference_attention)
    of = model(2, 2, 64, torch.float32, device)
    for recipe in ("exact", "k4v4h", "A35+k8v8h", "keep40:random+k4v3"):
        talk = Conversation(of, [pod(of, recipe, 150), pod(of, "exact", 20)])
        for count in (1, 4):
            got, _, truth = talk.step(count)
            torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-5)


def test_strided_new_tokens(device: torch.device) -> None:
    """As transformers gives them: (Q, heads, D), seen the other way round."""
    of = model(2, 2, 64, torch.float32, device)
    generator = torch.Generator().manual_seed(3)
    pods = [pod(of, "k4v4h", 111)]
    outputs = []
    query, keys, values = (of.random(generator, 3, heads).transpose(0, 1) for heads in (4, 2, 2))
    for as_given in (True, False):
        table = KVTable(of.shape, of.heads, 8, device)
        table.set(pods)
        new = (query, keys, values) if as_given else (each.contiguous() for each in (query, keys, values))
        outputs.append(table.attend(1, *new, 0.125))
    assert torch.equal(*outputs)
