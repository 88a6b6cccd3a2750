"""Numbers come back from their packed form."""

import random
import zlib
from contextlib import suppress

import pytest

from storage import DatabaseDamaged, pack_token_ids, pack_words, unpack_token_ids, unpack_words


def test_token_ids_come_back() -> None:
    ids = [random.Random(1).randrange(200_000) for _ in range(10_000)]
    assert unpack_token_ids(pack_token_ids(ids)) == ids
    assert unpack_token_ids(pack_token_ids([])) == []


def test_words_come_back_to_a_hundredth_of_a_point() -> None:
    draw = random.Random(2).random
    words = [(start, start + 5, draw(), draw(), draw(), draw()) for start in range(0, 6000, 6)]
    again = unpack_words(pack_words(words))
    assert [word[:2] for word in again] == [word[:2] for word in words]
    for left, right in zip(again, words, strict=True):
        assert left[2:] == pytest.approx(right[2:], abs=0.01 / 792)
    assert unpack_words(pack_words(again)) == again
    assert unpack_words(pack_words([])) == []


def test_boxes_end_at_the_edge_of_the_page() -> None:
    assert unpack_words(pack_words([(0, 1, -0.5, 0.0, 1.0, 1.5)])) == [(0, 1, 0.0, 0.0, 1.0, 1.0)]


def test_what_is_damaged_is_said_to_be() -> None:
    """Every single bit of a small column: the numbers as they were, or an error with a sentence."""
    ids = [1, 2, 40_000]
    packed = pack_token_ids(ids)
    for bit in range(8 * len(packed)):
        spoilt = (int.from_bytes(packed) ^ 1 << bit).to_bytes(len(packed))
        with suppress(DatabaseDamaged):
            assert unpack_token_ids(spoilt) == ids
    for unpack in (unpack_token_ids, unpack_words):
        for wrong in (packed[:-1], b"", zlib.compress(b"123")):
            with pytest.raises(DatabaseDamaged):
                unpack(wrong)
