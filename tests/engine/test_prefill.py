"""Reading where memory is short: smaller pieces, the same memory, and a sentence where there is no room at all."""

from collections.abc import Sequence

import pytest
import torch

from engine.errors import MemoryExhausted
from engine.layout import Layout
from engine.prefill import PodBuilder, chunk_tokens
from engine.recipes import parse
from engine.runner import Runner
from tests.engine.reading import read, some_ids


def narrow(runner: Runner, monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """The runner's memory runs out in the third layer of a call with more than `room` tokens; the sizes that fit."""
    sizes: list[int] = []
    whole, attention = runner.run, runner.attention
    calls: list[None] = []

    def cramped(query: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(None)
        if query.shape[1] > room and len(calls) % 3 == 0:
            calls.clear()
            raise torch.OutOfMemoryError("no room")
        return attention(query, *rest)

    def run(context, ids: Sequence[int]) -> torch.Tensor:
        calls.clear()
        context.attention = cramped
        logits = whole(context, ids)
        sizes.append(len(ids))
        return logits

    monkeypatch.setattr(runner, "run", run)
    return sizes


def test_a_chunk_without_room_is_read_in_pieces(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = some_ids(llama_runner, 700, 1)
    wanted = read(llama_runner, ids, 700)
    sizes = narrow(llama_runner, monkeypatch, 100)
    builder = PodBuilder(llama_runner, 700)
    blocks = [builder.feed(ids[:500]), builder.feed(ids[500:])]
    # Halved to powers of two until it fits, and never tried larger again.
    assert sizes == [64] * 7 + [52] + [64] * 3 + [8]
    assert [(block.start, block.stop) for block in blocks] == [(0, 500), (500, 700)]
    pod = builder.finish()
    torch.testing.assert_close(pod.keys, wanted.keys, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pod.values, wanted.values, rtol=1e-4, atol=1e-5)


def test_no_room_at_all_is_said_and_leaves_what_was_read(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = some_ids(llama_runner, 300, 1)
    builder = PodBuilder(llama_runner, 300)
    builder.feed(ids[:100])
    with monkeypatch.context() as patch:
        narrow(llama_runner, patch, 8)
        with pytest.raises(MemoryExhausted, match="64 tokens behind 100 do not fit"):
            builder.feed(ids[100:])
    assert builder.num_read == 100
    builder.context.attention = llama_runner.attention
    builder.feed(ids[100:])
    torch.testing.assert_close(builder.finish().keys, read(llama_runner, ids, 100).keys, rtol=1e-4, atol=1e-5)


def test_reading_that_writes_out_its_scores_does_so_in_small_pieces(
    llama_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.prefill._CPU_TOKENS", 64)
    sizes = narrow(llama_runner, monkeypatch, 10_000)
    ids = some_ids(llama_runner, 150, 1)
    builder = PodBuilder(llama_runner, 150, Layout(parse("A35s"), ((0, 0),) * 4))
    builder.feed(ids)
    assert sizes == [64, 64, 22]


def test_chunks_follow_the_device_and_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chunk_tokens(torch.device("cpu")) == 512
    for free, wanted in ((20 << 30, 4096), (2 << 30, 1024)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert chunk_tokens(torch.device("cuda")) == wanted
