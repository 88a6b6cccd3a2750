"""Citations: one passage a page, and beside an answer none that is far from it."""

from app.citations import best_passages
from app.evidence import Ranked
from app.passages import Passage


def ranked(page: int, words: float) -> Ranked:
    return Ranked(Passage(page, 0, 4, "text"), words, 0.0)


def pages(*found: Ranked) -> list[int]:
    return [each.passage.page for each in best_passages(found)]


def test_one_passage_a_page_and_at_most_three() -> None:
    assert pages(ranked(4, 1.0), ranked(4, 0.99), ranked(2, 0.98), ranked(3, 0.97), ranked(1, 0.96)) == [4, 2, 3]


def test_beside_a_passage_that_is_found_only_those_near_it() -> None:
    assert pages(ranked(4, 1.0), ranked(2, 0.8), ranked(3, 0.7)) == [4, 2]


def test_where_nothing_is_found_the_closest_are_shown() -> None:
    assert pages(ranked(4, 0.2), ranked(2, 0.05)) == [4, 2]
    assert pages() == []
