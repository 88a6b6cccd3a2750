"""Numbers come back from their packed form."""

import random

import pytest

from storage import pack_token_ids, pack_words, unpack_token_ids, unpack_words


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
