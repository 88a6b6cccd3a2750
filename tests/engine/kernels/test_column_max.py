"""The most attention that any query pays to each key: the kernel against plain PyTorch."""

import pytest
import torch

from engine.compression.policies import reread
from engine.core.lse import reference
from engine.kernels.attention.column_max import column_max


@pytest.mark.parametrize(
    ("groups", "repeats", "queries", "tokens", "dim"), [(2, 2, 37, 150, 16), (1, 3, 64, 128, 64), (2, 1, 5, 33, 96)]
)
def test_the_same_as_plain_pytorch(
    groups: int, repeats: int, queries: int, tokens: int, dim: int, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(tokens)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    made = torch.randn(groups * repeats * queries + 2 * groups * tokens, dim, generator=generator).to(device, dtype)
    query = made[: groups * repeats * queries].view(groups * repeats, queries, dim)
    # Rows of a longer buffer, as those of a pod may be.
    keys = made[groups * repeats * queries :].view(groups, 2 * tokens, dim)[:, :tokens]
    _, lse = reference(query, keys, keys, dim**-0.5, False)
    before = torch.zeros(groups, tokens, device=device)
    before[:, ::7] = 0.5
    ours, plain = before.clone(), before.clone()
    column_max(query, keys, lse, dim**-0.5, ours)
    reread.column_max(query, keys, lse, dim**-0.5, plain)
    torch.testing.assert_close(ours, plain, rtol=2e-2 if device.type == "cuda" else 1e-4, atol=1e-4)
    logits = torch.einsum("grqd,gtd->grqt", query.float().view(groups, repeats, queries, dim), keys.float())
    shares = (logits * dim**-0.5 - lse.view(groups, repeats, queries, 1)).exp()
    torch.testing.assert_close(ours, torch.maximum(before, shares.amax((1, 2))), rtol=2e-2, atol=1e-4)
    assert (ours[:, ::7] >= 0.5).all() and (ours != before).any()


def test_the_last_queries_of_a_group_count(device: torch.device) -> None:
    query = torch.zeros(2, 70, 16, device=device)
    query[1, 69, 0] = 40.0
    keys = torch.zeros(1, 20, 16, device=device)
    keys[0, 19, 0] = 1.0
    _, lse = reference(query, keys, keys, 1.0, False)
    best = torch.zeros(1, 20, device=device)
    column_max(query, keys, lse, 1.0, best)
    assert best[0, 19].item() == pytest.approx(1.0, abs=1e-3)
    assert best[0, 0].item() == pytest.approx(1 / 20, rel=1e-3)
