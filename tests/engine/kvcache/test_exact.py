"""Pods: what they weigh, what they refuse to be made of, and what a selection of them keeps."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from engine.core.errors import PodMismatch, WindowExceeded
from engine.core.kv_shape import KVShape, LayerShape
from engine.kvcache.exact import Pod, PodBlock, PodLoader, from_block, pieces
from engine.kvcache.suffix import SuffixCache
from engine.runtime.prefill.builder import PodBuilder
from engine.runtime.runner import Runner
from tests.engine.reading import feed, fingerprint, read, some_ids
from tests.engine.shapes import check, to_block, uniform

CPU = torch.device("cpu")
SHAPE = uniform(layers=3, kv_heads=2, head_dim=8, dtype=torch.bfloat16)
WHOLE = torch.arange(2 * 3 * 2 * 50 * 8).reshape(2, 3, 2, 50, 8).to(torch.bfloat16)
"""Keys and values of fifty tokens."""


def block(start: int, stop: int) -> PodBlock:
    return to_block(WHOLE[0, :, :, start:stop], WHOLE[1, :, :, start:stop], start)


def load(*blocks: PodBlock, num_tokens: int = 50) -> Pod:
    loader = PodLoader(SHAPE, num_tokens, CPU)
    for each in blocks:
        loader.add(each.meta, each.payload)
    return loader.finish()


def pod(positions: list[int], num_tokens: int) -> Pod:
    slots = torch.tensor(positions, dtype=torch.long)
    return Pod(WHOLE[0][:, :, slots], WHOLE[1][:, :, slots], slots, num_tokens)


def test_sizes_to_the_byte() -> None:
    assert SHAPE.token_bytes == 2 * 3 * 2 * 8 * 2
    assert replace(SHAPE, dtype=torch.float32).token_bytes == 2 * 3 * 2 * 8 * 4
    # The embedded model: 30 layers, 3 heads of 64 dimensions, two bytes each.
    assert uniform(30, 3, 64, torch.bfloat16).token_bytes == 23_040
    assert load(block(0, 50)).nbytes == 50 * SHAPE.token_bytes
    assert len(block(10, 17).payload) == 7 * SHAPE.token_bytes


def test_a_block_is_keys_then_values_layer_by_layer() -> None:
    """The layout on disk, which no later version may change without a new format number."""
    made = block(10, 17)
    assert (made.start, made.stop) == (10, 17)
    assert made.meta == {"dtype": "bfloat16", "shape": [2, 3, 2, 7, 8], "start": 10}
    assert bytes(made.payload) == WHOLE[:, :, :, 10:17].contiguous().view(torch.uint8).numpy().tobytes()
    start, stop, (pair,) = from_block(made.meta, made.payload, SHAPE)
    assert (start, stop) == (10, 17) and torch.equal(pair, WHOLE[:, :, :, 10:17])


@pytest.mark.parametrize("most_bytes", [1, 1000, 7 * 192, 40 * 192, 1 << 20])
def test_a_large_block_is_stored_in_pieces(most_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.kvcache.exact.MOST_BYTES", most_bytes)
    whole = block(5, 45)
    made = [*pieces(whole)]
    assert [each.start for each in made] == [5, *(each.stop for each in made[:-1])] and made[-1].stop == 45
    assert all(len(each.payload) <= max(most_bytes, SHAPE.token_bytes) for each in made)
    for each in made:
        same = block(each.start, each.stop)
        assert (each.meta, bytes(each.payload)) == (same.meta, bytes(same.payload))
    if most_bytes >= len(whole.payload):
        assert made == [whole]


def test_a_block_is_a_copy() -> None:
    keys, values = WHOLE[0, :, :, :5].clone(), WHOLE[1, :, :, :5].clone()
    made = to_block(keys, values, 0)
    before = bytes(made.payload)
    keys.zero_()
    assert bytes(made.payload) == before


@pytest.mark.parametrize("cuts", [(0, 50), (0, 1, 50), (0, 17, 34, 49, 50)])
def test_blocks_make_the_pod(cuts: tuple[int, ...]) -> None:
    """In any order, and from several threads."""
    blocks = [block(*pair) for pair in itertools.pairwise(cuts)]
    loader = PodLoader(SHAPE, 50, CPU)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: loader.add(each.meta, each.payload), blocks))
    for made in (load(*blocks), load(*reversed(blocks)), loader.finish()):
        check(made)
        assert torch.equal(made.keys, WHOLE[0]) and torch.equal(made.values, WHOLE[1])
        assert made.positions.tolist() == list(range(50)) and made.num_tokens == 50


@pytest.mark.parametrize(
    ("pairs", "num_tokens"),
    [
        ([], 50),
        ([(0, 49)], 50),
        ([(1, 50)], 50),
        ([(0, 20), (21, 50)], 50),
        ([(0, 20), (19, 50)], 50),
        ([(0, 20), (0, 20), (20, 50)], 50),
        ([(0, 50)], 49),
        ([(0, 50)], 51),
    ],
)
def test_gaps_overlaps_and_wrong_lengths_are_refused(pairs: list[tuple[int, int]], num_tokens: int) -> None:
    with pytest.raises(PodMismatch):
        load(*(block(*pair) for pair in pairs), num_tokens=num_tokens)


@pytest.mark.parametrize(
    "foreign",
    [
        replace(SHAPE, dtype=torch.float32),
        replace(SHAPE, dtype=torch.float16),
        uniform(4, 2, 8, torch.bfloat16),
        uniform(3, 1, 8, torch.bfloat16),
        uniform(3, 2, 16, torch.bfloat16),
        KVShape((*SHAPE.per_layer[:2], LayerShape(2, 8, window=9)), torch.bfloat16),
    ],
)
def test_blocks_of_another_model_are_refused(foreign: KVShape) -> None:
    """float16 has bfloat16's size: only the name tells them apart."""
    made = block(0, 50)
    with pytest.raises(PodMismatch, match="does not fit this model"):
        from_block(made.meta, made.payload, foreign)
    with pytest.raises(PodMismatch):
        PodLoader(foreign, 50, CPU).add(made.meta, made.payload)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "no such dtype"},
        {"dtype": "nn"},
        {"shape": []},
        {"shape": [2, 3, 2, 50]},
        {"shape": [1, 3, 2, 50, 8]},
        {"shape": [2, 3, 2, 49, 8]},
        {"shape": [2, 3, 2, 51, 8]},
    ],
)
def test_facts_that_do_not_fit_the_bytes_are_refused(change: dict[str, object]) -> None:
    made = block(0, 50)
    with pytest.raises(PodMismatch):
        from_block({**made.meta, **change}, made.payload, SHAPE)


@pytest.mark.parametrize("num_bytes", [0, -1, 1])
def test_a_payload_of_another_length_is_refused(num_bytes: int) -> None:
    """Nothing, a byte too few, a byte too many."""
    made = block(0, 50)
    payload = bytes(made.payload) + b"x" if num_bytes == 1 else bytes(made.payload)[:num_bytes]
    with pytest.raises(PodMismatch, match="cannot hold"):
        from_block(made.meta, memoryview(bytearray(payload)), SHAPE)


def test_a_selection_keeps_positions_and_ends_behind_its_last_slot() -> None:
    chosen = load(block(0, 50)).select(torch.tensor([0, 1, 20, 21, 33]))
    check(chosen)
    assert chosen.positions.tolist() == [0, 1, 20, 21, 33]
    assert chosen.num_tokens == 34
    assert torch.equal(chosen.keys, WHOLE[0][:, :, [0, 1, 20, 21, 33]])
    assert torch.equal(chosen.values, WHOLE[1][:, :, [0, 1, 20, 21, 33]])
    again = chosen.select(torch.tensor([1, 3]))
    assert again.positions.tolist() == [1, 21] and again.num_tokens == 22
    assert torch.equal(again.keys, WHOLE[0][:, :, [1, 21]])


def test_a_selection_is_a_copy() -> None:
    whole = load(block(0, 50))
    before = fingerprint(whole)
    whole.select(torch.arange(50)).keys.zero_()
    assert fingerprint(whole) == before


def test_check_passes_what_belongs_together() -> None:
    check(pod([0, 4, 9], 10))
    check(pod([], 0))


@pytest.mark.parametrize(
    "broken",
    [
        pod([0, 4, 9], 9),
        pod([0, 4, 4], 10),
        pod([4, 0, 9], 10),
        Pod(WHOLE[0], WHOLE[1][:, :, :49], torch.arange(50), 50),
        Pod(WHOLE[0], WHOLE[1][:2], torch.arange(50), 50),
        Pod(WHOLE[0], WHOLE[1], torch.arange(49), 50),
    ],
)
def test_check_refuses_what_does_not(broken: Pod) -> None:
    with pytest.raises(PodMismatch):
        check(broken)


def test_a_builder_wants_the_next_block(llama_runner: Runner) -> None:
    document = some_ids(llama_runner, 30, 0)
    builder = PodBuilder(llama_runner, 30)
    blocks = feed(builder, document, 10)
    again = PodBuilder(llama_runner, 30)
    again.restore(blocks[0].meta, blocks[0].payload)
    for wrong in (blocks[0], blocks[2]):
        with pytest.raises(PodMismatch, match="cannot follow token 10"):
            again.restore(wrong.meta, wrong.payload)
    assert again.num_read == 10
    short = PodBuilder(llama_runner, 15)
    short.restore(blocks[0].meta, blocks[0].payload)
    with pytest.raises(PodMismatch):
        short.restore(blocks[1].meta, blocks[1].payload)
    with pytest.raises(PodMismatch, match="10 of 30 tokens are read"):
        again.finish()


def test_a_builder_takes_no_more_than_it_was_made_for(llama_runner: Runner) -> None:
    builder = PodBuilder(llama_runner, 10)
    builder.feed(some_ids(llama_runner, 8, 0))
    with pytest.raises(WindowExceeded):
        builder.feed(some_ids(llama_runner, 3, 0))
    assert builder.num_read == 8
    builder.feed(some_ids(llama_runner, 2, 0))
    check(builder.finish())


def test_a_finished_pod_holds_what_was_read(llama_runner: Runner) -> None:
    made = read(llama_runner, some_ids(llama_runner, 30, 0), 7)
    check(made)
    assert made.num_tokens == 30 and made.nbytes == 30 * llama_runner.model.shape.token_bytes
    assert not made.keys.isnan().any() and not made.values.isnan().any()


def test_a_tail_refuses_what_does_not_fit() -> None:
    suffix = SuffixCache(SHAPE, 5, CPU)
    keys = WHOLE[0, 0, :, :4]
    suffix.append(0, keys, keys)
    assert suffix.length == 0, "a layer alone does not make a token"
    suffix.advance(4)
    with pytest.raises(WindowExceeded, match="6 tokens do not fit a tail of 5"):
        suffix.append(0, keys[:, :2], keys[:, :2])
    suffix.crop(9)
    assert suffix.length == 4
    suffix.crop(1)
    assert suffix.length == 1 and suffix.segment(0)[0].shape == (2, 1, 8)
