"""How much is read at once."""

from collections.abc import Sequence

import pytest
import torch

from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from engine.runtime.context import Context
from engine.runtime.prefill.builder import PodBuilder, chunk_tokens, tapered
from engine.runtime.runner import Runner
from tests.engine.reading import some_ids


def test_reading_that_writes_out_its_scores_does_so_in_small_pieces(
    llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.prefill.builder._SHARED_TOKENS", 64)
    sizes: list[int] = []
    whole = llama_runner.run

    def run(context: Context, ids: Sequence[int]) -> torch.Tensor:
        sizes.append(len(ids))
        return whole(context, ids)

    monkeypatch.setattr(llama_runner, "run", run)
    builder = PodBuilder(llama_runner, 150, Layout(parse("A35s"), ((0, 0),) * 4))
    builder.feed(some_ids(llama_runner, 150, 1))
    assert sizes == [64, 64, 22] and builder.num_read == 150


def test_chunks_follow_the_device_and_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunk_tokens(torch.device("cpu")) == 1024
    for free, wanted in ((20 << 30, 4096), (2 << 30, 1024)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert chunk_tokens(torch.device("cuda")) == wanted


def test_chunks_become_shorter_at_the_end() -> None:
    found, left = [], 2 * 4096 + 4080
    while left:
        found.append(min(left, tapered(4096, left)))
        left -= found[-1]
    assert found == [4096, 4096, 2048, 1024, 1008]
    assert [tapered(4096, left) for left in (1, 1536, 1537, 3000, 4096, 4097, 9000)] == [
        4096, 4096, 1024, 2048, 2048, 4096, 4096,
    ]  # fmt: skip
    assert tapered(512, 512) == 512
