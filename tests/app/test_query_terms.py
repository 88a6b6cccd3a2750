"""What a question seeks: rare words weigh most, neighbours and headings less, and how to answer does not count."""

import pytest

from app.indexed_page import IndexedPage, indexed_page
from app.query_terms import BELOW, BESIDE, HEADED, QueryTerms, core_question, seek
from app.words import stem

PAGES = [
    "Acme keeps its records here. Acme has a harbour office.",
    "Acme pays rent for the harbour office. The lease ends in 2031.",
    "Acme was founded by Ada Whitlock. She kept the office.",
    "Acme employs clerks. The office is quiet.",
]


@pytest.fixture
def pages() -> list[IndexedPage]:
    return [indexed_page(number, text) for number, text in enumerate(PAGES, 1)]


def shares(terms: QueryTerms, text: str) -> list[float]:
    return terms.shares([indexed_page(1, text)]).tolist()


def test_weights_are_shares_and_the_rarer_word_weighs_more(pages: list[IndexedPage]) -> None:
    weights = seek("When does the lease of the office end?", pages).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[stem("lease")] > weights[stem("office")]


def test_the_passage_beside_counts_a_third_and_pages_end_where_they_end(pages: list[IndexedPage]) -> None:
    terms = seek("Which lease has the rent?", pages)
    rent, lease = terms.weights["rent"], terms.weights[stem("lease")]
    expected = [0, 0, rent + BESIDE * lease, lease + BESIDE * rent, 0, 0, 0, 0]
    assert terms.shares(pages).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "Rent of the yards\nNorth 12.5 14.5\nSouth 3.5 4.5",
        "Rent\n2019 2020\nNorth 12.5 14.5\nSouth 3.5 4.5",
    ],
)
def test_a_heading_counts_for_the_rows_of_figures_below_it(text: str) -> None:
    terms = QueryTerms({"rent": 0.5, "south": 0.5})
    assert shares(terms, text)[-1] == pytest.approx(0.5 + 0.5 * HEADED)


def test_the_heads_of_columns_count_for_every_row() -> None:
    terms = QueryTerms({"2019": 0.5, "south": 0.5})
    text = "Rent\n2019 2020\nNorth 12.5 14.5\nWest 1.5 1.6\nSouth 3.5 4.5"
    assert shares(terms, text)[-1] == pytest.approx(0.5 + 0.5 * HEADED)


def test_a_word_written_almost_right_is_taken_for_the_one_that_the_document_has(pages: list[IndexedPage]) -> None:
    assert "whitlock" in seek("What did Withlock found?", pages).weights
    assert seek("What did Withlock found?", pages).missing == 0
    assert seek("What did Zeppelin found?", pages).missing > 0


@pytest.mark.parametrize(
    ("question", "rest"),
    [
        ("What is the code of Bergen? Please answer in English.", "What is the code of Bergen?"),
        ("What is the code of Bergen? Reply with a Number only.", "What is the code of Bergen?"),
        ("Round your answer to two decimal places. What is the margin of Vardo?", "What is the margin of Vardo?"),
        ("According to the Report, how long does it last in Bergen?", "how long does it last in Bergen?"),
        ("Write the licence number of the ferry", "Write the licence number of the ferry"),
    ],
)
def test_how_to_answer_is_not_sought(question: str, rest: str) -> None:
    assert core_question(question) == rest


@pytest.mark.parametrize(
    ("question", "figures"),
    [("How much did it cost?", True), ("What is the total of the fees?", True), ("Who is the captain?", False)],
)
def test_whether_an_amount_is_asked_for(question: str, figures: bool) -> None:
    assert seek(question, []).figures is figures


def test_a_question_without_words_seeks_nothing(pages: list[IndexedPage]) -> None:
    terms = seek("?", pages)
    assert terms.weights == {}
    assert set(terms.shares(pages).tolist()) == {0.0}
