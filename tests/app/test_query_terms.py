"""What a question seeks: rare words weigh most, neighbours and headings less, and how to answer does not count."""

import pytest

from app.indexed_page import IndexedPage, indexed_page
from app.query_terms import BESIDE, HEADED, QueryTerms, core_question, seek
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
        ("What were the total net sales of Vardo?", "What were the net sales of Vardo?"),
        ("What were the total assets of Vardo?", "What were the total assets of Vardo?"),
        ("What was the rent in fiscal year 2031?", "What was the rent in 2031?"),
        ("What was the rent for the fiscal year ended in May 2031?", "What was the rent for the in May 2031?"),
    ],
)
def test_how_to_answer_is_not_sought(question: str, rest: str) -> None:
    assert core_question(question) == rest


@pytest.mark.parametrize(
    ("question", "figures"),
    [
        ("How much did it cost?", True),
        ("What is the total of the fees?", True),
        ("What were the revenues of Vardo?", True),
        ("Who is the captain?", False),
        ("How does Vardo book the cost of boats?", False),
        ("What are the main parts of the total?", False),
    ],
)
def test_whether_an_amount_is_asked_for(question: str, figures: bool) -> None:
    assert seek(question, []).figures is figures


def test_a_question_without_words_seeks_nothing(pages: list[IndexedPage]) -> None:
    terms = seek("?", pages)
    assert terms.weights == {}
    assert set(terms.shares(pages).tolist()) == {0.0}


def test_the_name_of_the_document_tells_little_and_a_year_of_its_title_all(pages: list[IndexedPage]) -> None:
    question = "What did Whitlock pay in 2031?"
    plain, titled = (seek(question, pages, title=title).weights for title in ("", "WHITLOCK_2031"))
    assert titled["whitlock"] < plain["whitlock"] / 2
    assert titled["2031"] > plain["2031"]


def test_a_row_is_named_by_the_words_in_front_of_its_figures() -> None:
    terms = seek("What is the net income of 2031?", [])
    rows = [indexed_page(1, f"Acme\n2031 2030\n{row} 1,204 1,197").passages[-1] for row in ROWS]
    assert [terms.names_row(row) for row in rows] == pytest.approx([1.0, 0.25, 0.0, 0.25])


ROWS = ("Net income", "Tax on net sales", "Clerks", "Tax on income, net")


def test_words_side_by_side_and_values_of_that_very_name() -> None:
    terms = seek("Who is the chief night officer of the boat?", [])
    texts = (
        "Ida Moe, chief night officer",
        "Ola Lie, chief day officer",
        "Officer at night, chief",
        "The boat: Petrel",
    )
    assert [terms.together(indexed_page(1, text).passages[0]) for text in texts] == [1.0, 0.0, 0.0, 1.0]
