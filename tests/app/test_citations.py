"""Citations: one passage a page, and beside an answer none that is far from it."""

import pytest

from app.citations import best_passages, cited
from app.evidence import Ranked
from app.passages import Passage
from storage import Page, pack_words


def ranked(page: int, words: float) -> Ranked:
    return Ranked(Passage(page, 0, 4, "text"), 0, (0, 1), 0.0, words, 0.0, named=True)


def pages(*found: Ranked) -> list[int]:
    return [each.passage.page for each in best_passages(found)]


def test_one_passage_a_page_and_at_most_three() -> None:
    assert pages(ranked(4, 1.0), ranked(4, 0.9), ranked(2, 0.8), ranked(3, 0.7), ranked(1, 0.6)) == [4, 2, 3]


def test_beside_a_passage_that_is_found_only_those_near_it() -> None:
    assert pages(ranked(4, 1.0), ranked(2, 0.5), ranked(3, 0.49)) == [4, 2]


def test_where_nothing_is_found_the_closest_are_shown() -> None:
    assert pages(ranked(4, 0.7), ranked(2, 0.1)) == [4, 2]
    assert pages() == []


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("The tower is 41.5\n metres high.", (13, 25), "41.5 metres"),
        ("In 9 of 9 years it was 9.", (23, 24), "9"),
        ("In 9 of 9 years it was 9.", (3, 4), "9"),
        ("It is high.", None, ""),
    ],
)
def test_what_answers_is_found_again_in_the_quote(text: str, span: tuple[int, int] | None, expected: str) -> None:
    before = "Words before. "
    words = pack_words([(0, len(before + text), 0.1, 0.1, 0.9, 0.2)])
    page = Page(number=4, label="4", text=before + text, state="ok", width_pt=1, height_pt=1, words=words)
    start = len(before)
    moved = span and (span[0] + start, span[1] + start)
    found = cited(1, page, Passage(4, start, start + len(text), text), 1.0, moved)
    assert found.words == expected
    if span:
        assert found.span == (len(" ".join(text[: span[0]].split()) + " "), found.span[1])
