"""How much is read at once."""

import pytest
import torch

from engine.runtime.prefill.builder import chunk_tokens, tapered


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
