"""What a question seeks: rare words weigh most, neighbours count a little, and a name must be near."""

import pytest

from app.passages import Passage, split
from app.query_terms import seek

PAGES = [
    "Acme keeps its records here. Acme has a harbour office.",
    "Acme pays rent for the harbour office. The lease ends in 2031.",
    "Acme was founded by Ada Whitlock. She kept the office.",
    "Acme employs clerks. The office is quiet.",
]


@pytest.fixture
def pages() -> list[list[Passage]]:
    return [split(number, text) for number, text in enumerate(PAGES, 1)]


def test_weights_are_shares_and_the_rarer_word_weighs_more(pages: list[list[Passage]]) -> None:
    weights = seek("When does the lease of the office end?", pages).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["leas"] > weights["offic"]


def test_the_passage_beside_counts_a_third(pages: list[list[Passage]]) -> None:
    terms = seek("Which lease has the rent?", pages)
    (first, _), (second, _) = terms.shares(pages[1])
    assert first == pytest.approx(terms.weights["rent"] + terms.weights["leas"] / 3)
    assert second == pytest.approx(terms.weights["leas"] + terms.weights["rent"] / 3)


def test_a_name_must_be_in_the_passage_or_beside_it(pages: list[list[Passage]]) -> None:
    terms = seek("What did Whitlock found?", pages)
    assert terms.names == {"whitlock"}
    assert [named for _, named in terms.shares(pages[2])] == [True, True]
    assert [named for _, named in terms.shares(pages[3])] == [False, False]


def test_a_name_on_most_pages_tells_nothing_apart(pages: list[list[Passage]]) -> None:
    terms = seek("What does Acme pay?", pages)
    assert terms.names == frozenset()
    assert all(named for _, named in terms.shares(pages[3]))


def test_a_question_without_words_seeks_nothing(pages: list[list[Passage]]) -> None:
    terms = seek("?", pages)
    assert terms.weights == {}
    assert {share for page in pages for share, _ in terms.shares(page)} == {0.0}
