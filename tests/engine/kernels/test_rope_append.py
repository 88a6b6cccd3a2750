"""Norms of heads and rotary positions by a kernel, against transformers and against plain PyTorch."""

import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

from engine.core.rope import HeadNorms, Rotary
from engine.kernels.attention import rope_append
from engine.kernels.attention.rope_append import Places
from engine.runtime.kv_table import KVTable
from tests.engine.kernels import reference_rope
from tests.engine.kernels.pods import Model, model, pod


def rotary_of(of: Model, positions: torch.Tensor) -> Rotary:
    half = of.shape.head_dim // 2
    angles = torch.arange(512)[:, None] * 10_000.0 ** -(torch.arange(half) / half)
    return Rotary(angles.cos().to(of.device), angles.sin().to(of.device), positions.to(of.device))


def norms_of(of: Model) -> HeadNorms:
    generator = torch.Generator().manual_seed(1)
    return HeadNorms(of.random(generator, 1)[0] + 1, of.random(generator, 1)[0] + 1, 1e-6)


def places_of(of: Model, count: int, turned: bool) -> Places:
    """A tail of six tokens with room for twelve, and everything else poisoned."""
    groups, dim, device = of.shape.kv_heads, of.shape.head_dim, of.device
    query, rotated = torch.full((2, of.heads, count, dim), torch.nan, device=device)
    keys, values = torch.full((2, groups, 12, dim), torch.nan, dtype=of.shape.dtype, device=device)
    start = torch.tensor([6], dtype=torch.int32, device=device)
    return Places(query, keys, values, start, rotated if turned else None)


@pytest.mark.parametrize("normed", (False, True))
@pytest.mark.parametrize(
    ("groups", "share", "dim", "count"), ((2, 4, 128, 1), (1, 1, 96, 5), (2, 2, 64, 2), (1, 2, 256, 1))
)
def test_against_plain_pytorch(groups, share, dim, count, normed: bool, device: torch.device) -> None:
    of = model(groups, share, dim, torch.float32, device)
    rows = of.random(torch.Generator().manual_seed(2), count, of.heads + 2 * groups).flatten(1)
    rotary = rotary_of(of, torch.arange(300, 300 + count))
    for turned in (False, True):
        got, expected = places_of(of, count, turned), places_of(of, count, turned)
        rope_append.rope(rows, rotary, norms_of(of) if normed else None, got)
        reference_rope.rope(rows, rotary, norms_of(of) if normed else None, expected)
        for name in ("query", "rotated", "keys", "values"):
            if getattr(expected, name) is not None:
                each = getattr(got, name), getattr(expected, name)
                torch.testing.assert_close(*each, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_the_plain_functions_are_those_of_transformers(device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    norms, positions = norms_of(of), torch.tensor([7, 8, 9])
    rows = of.random(torch.Generator().manual_seed(2), 3, 8)
    rotary, places = rotary_of(of, positions), places_of(of, 3, False)
    reference_rope.rope(rows.flatten(1), rotary, norms, places)
    ours = []
    for part, weight in ((rows[:, :4], norms.query), (rows[:, 4:6], norms.keys)):
        norm = Qwen3RMSNorm(64, eps=norms.epsilon).to(device)
        norm.weight.data = weight
        ours.append(norm(part).transpose(0, 1)[None])
    cos, sin = (table[positions].repeat(1, 2)[None] for table in (rotary.cos, rotary.sin))
    query, keys = apply_rotary_pos_emb(*ours, cos, sin)
    torch.testing.assert_close(places.query, query[0].detach())
    torch.testing.assert_close(places.keys[:, 6:9], keys[0].detach())
    assert torch.equal(places.values[:, 6:9], rows[:, 6:].transpose(0, 1))


def test_a_full_tail_is_not_written_behind(device: torch.device) -> None:
    of = model(2, 1, 64, torch.float32, device)
    room = torch.full((3, 8, 64), torch.nan, device=device)
    start = torch.tensor([7], dtype=torch.int32, device=device)
    places = Places(torch.zeros(2, 2, 64, device=device), room[:2], room[:2].clone(), start)
    rope_append.rope(torch.ones(2, 6 * 64, device=device), rotary_of(of, torch.arange(2)), None, places)
    assert room[0, 7].isfinite().all() and room[1, 7].isfinite().all()
    assert room[:2, :7].isnan().all() and room[2].isnan().all()


@pytest.mark.parametrize("recipe", ("k4v4h", "A35+k8v8"))
def test_attention_from_a_fused_projection(recipe: str, device: torch.device) -> None:
    of = model(2, 2, 64, torch.float32, device)
    fused, plain = (KVTable(of.shape, of.heads, 8, device) for _ in range(2))
    generator = torch.Generator().manual_seed(2)
    for table in (fused, plain):
        table.set([pod(of, recipe, 100)])
    for count in (2, 1):
        rotary = rotary_of(of, fused.positions(count))
        for layer in range(2):
            rows = of.random(generator, count, 8).flatten(1)
            places = Places(
                torch.empty(4, count, 64, device=device),
                *torch.empty(2, 2, count, 64, device=device),
                torch.zeros(1, dtype=torch.int32, device=device),
            )
            reference_rope.rope(rows, rotary, None, places)
            expected = plain.attend(layer, places.query, places.keys, places.values, 0.125)
            torch.testing.assert_close(fused.attend_fused(layer, rows, rotary, None, 0.125), expected)
        for table in (fused, plain):
            table.advance(count)
            table.length += count
