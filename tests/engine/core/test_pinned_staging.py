"""Staging: rooms that never overlap, threads that wait for one, and whole pods at the end of the way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from engine.compression.compress import pack_pod
from engine.core.errors import PodMismatch
from engine.core.pinned_staging import Staging, to_host
from engine.kvcache.blocks.by_layer import QuantizedLoader, to_blocks
from engine.kvcache.exact import PodLoader
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import parse
from tests.engine.offload.test_tiers import CPU, DEVICES, OWN, SHAPE, TOKENS, contents, exact
from tests.engine.shapes import check, to_block


@pytest.fixture(params=DEVICES)
def staging(request: pytest.FixtureRequest) -> Staging:
    return Staging(torch.device(request.param), 1 << 20)


def address(room: memoryview) -> int:
    return torch.frombuffer(room, dtype=torch.uint8).data_ptr()


def test_rooms_are_aligned_apart_and_used_again(staging: Staging) -> None:
    staging.warm()
    with staging.room(5_000) as first, staging.room(100) as second:
        assert (len(first), len(second)) == (5_000, 100)
        places = sorted([(address(first), 5_000), (address(second), 100)])
        assert all(start + size <= after for (start, size), (after, _) in pairwise(places))
        assert all(start % 64 == 0 for start, _ in places)
        before = address(first)
        with staging.room(1_000_000) as large:
            large[:] = b"x" * len(large)
            assert address(large) == before + 3 * 4096
        first[:3] = b"abc"
    with staging.room(5_000) as again:
        assert not staging._pinned or address(again) == before


def test_a_gap_between_rooms_is_used(staging: Staging) -> None:
    with staging.room(4096) as first:
        middle = staging.room(8192)
        gap = address(middle.__enter__())
        with staging.room(4096):
            middle.__exit__(None, None, None)
            with staging.room(8192) as again:
                assert address(again) == gap == address(first) + 4096


def test_a_block_larger_than_the_arena_gets_a_room_of_its_own(staging: Staging) -> None:
    with staging.room((1 << 20) + 1) as room, staging.room(1 << 20) as other:
        assert (len(room), len(other)) == ((1 << 20) + 1, 1 << 20)


def test_who_finds_it_full_waits() -> None:
    staging = Staging(CPU, 1 << 20)
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with staging.room(600_000):
            entered.set()

    with ThreadPoolExecutor(1) as threads:
        with staging.room(600_000):
            waiting = threads.submit(second)
            assert not entered.wait(0.05)
            leave.set()
        waiting.result()
    assert entered.is_set()


def test_a_room_is_free_again_after_a_failure(staging: Staging) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), staging.room(900_000):
            raise ZeroDivisionError
    with staging.room(900_000):
        pass


LAYOUT = Layout(parse("k4v4h+near4,32"), OWN)


@pytest.mark.parametrize("recipe", ["exact", "packed"])
def test_blocks_of_many_threads_become_one_pod(staging: Staging, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through an arena that has room for two of them, whose contents are spoiled as soon as a room is left."""
    monkeypatch.setattr("engine.kvcache.blocks.by_layer.BLOCK_BYTES", 1)
    monkeypatch.setattr("engine.kvcache.blocks.by_layer.MOST_BYTES", 1)
    source = exact()
    expected = source if recipe == "exact" else pack_pod(source, LAYOUT)
    if recipe == "exact":
        cuts = [*range(0, TOKENS, 7), TOKENS]
        blocks = [to_block(source.keys[:, :, a:b], source.values[:, :, a:b], a) for a, b in pairwise(cuts)]
        loader: PodLoader | QuantizedLoader = PodLoader(SHAPE, TOKENS, staging.device, staging)
    else:
        blocks = [*to_blocks(expected)]
        assert len(blocks) == SHAPE.layers * SHAPE.kv_heads
        loader = QuantizedLoader(LAYOUT, SHAPE, TOKENS, staging.device, staging)
    staging._size = 2 * max(len(block.payload) for block in blocks) + 4096

    def add(number: int) -> None:
        block = blocks[number]
        with loader.room(len(block.payload)) as room:
            room[:] = block.payload
            loader.add(block.meta, room)
        if recipe == "exact" or staging._pinned:
            room[:] = b"\xff" * len(room)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, reversed(range(len(blocks)))))
    made = loader.finish()
    check(made)
    assert contents(made) == contents(expected)


def test_what_goes_to_the_host_is_there_once_it_is_waited_for(staging: Staging) -> None:
    there = torch.arange(3 << 18, dtype=torch.int32, device=staging.device).view(3, -1)
    arrived = to_host(there, 16 << 20)
    wanted = there.cpu()
    assert torch.equal(arrived(), wanted) and torch.equal(to_host(there)(), wanted)
    assert arrived().is_pinned() is (staging.device.type == "cuda")


def test_what_is_sent_is_on_the_device_after_join(staging: Staging) -> None:
    host = torch.arange(1 << 18, dtype=torch.uint8)
    with staging.room(len(host)) as room:
        room[:] = host.numpy().data
        there = staging.send(torch.frombuffer(room, dtype=torch.uint8))
    staging.join()
    assert torch.equal(there.cpu(), host)


def test_a_foreign_block_among_good_ones_gives_no_pod(staging: Staging) -> None:
    source = exact()
    good, bad = (to_block(source.keys[:, :, a:b], source.values[:, :, a:b], a) for a, b in ((0, 100), (50, 150)))
    loader = PodLoader(SHAPE, TOKENS, staging.device, staging)
    loader.add(good.meta, good.payload)
    with pytest.raises(PodMismatch):
        loader.add({**good.meta, "dtype": "float16"}, good.payload)
    loader.add(bad.meta, bad.payload)
    with pytest.raises(PodMismatch, match="starts at token 50"):
        loader.finish()
