"""Running heads and page numbers: left out where they repeat, kept where they say something new."""

import re
from collections.abc import Sequence

import pytest

from app.readers import ParsedPage, Word
from app.readers.running_heads import without_running_heads


def page(number: int, *lines: tuple[float, str]) -> ParsedPage:
    """A page whose lines stand at the given heights, each word with a box."""
    text = ""
    words = []
    for top, line in lines:
        for word in re.finditer(r"\S+", line):
            words.append(Word(len(text) + word.start(), len(text) + word.end(), 0.1, top, 0.2, top + 0.015))
        text += line + "\n"
    return ParsedPage(number, str(number), text.rstrip(), "ok", 595.0, 842.0, tuple(words))


BODY = [
    "The tide turned early.",
    "Nobody saw the pilot.",
    "A lorry waited below.",
    "Frost took the rest.",
    "It rained again.",
    "Two boats were lost.",
]


def book(heads: Sequence[Sequence[tuple[float, str]]], feet: Sequence[Sequence[tuple[float, str]]]) -> list[ParsedPage]:
    """Pages with a line of text each, between their heads and feet."""
    return [
        page(number, *head, (0.4, BODY[number % 6]), (0.42, f"So says line {number * 7919}."), *foot)
        for number, (head, foot) in enumerate(zip(heads, feet, strict=True), 1)
    ]


def texts(pages: Sequence[ParsedPage]) -> list[list[str]]:
    return [[line for line in each.text.splitlines() if line] for each in without_running_heads(pages)]


NOTHING: list[list[tuple[float, str]]] = [[]] * 6


class TestRepeated:
    @pytest.mark.parametrize("head", ["Works of the harbour", "Table of Contents", "THE ANNUAL REPORT  2019"])
    def test_a_head_stays_on_its_first_page_as_a_paragraph(self, head: str) -> None:
        pages = book([[(0.05, head)]] * 6, NOTHING)
        found = list(without_running_heads(pages))
        assert found[0].text.startswith(f"{head}\n\n")
        assert all(head not in each.text for each in found[1:])

    def test_words_still_index_the_text(self) -> None:
        pages = book([[(0.05, "Works of the harbour")]] * 6, [[(0.95, f"Page {n} of 6")] for n in range(1, 7)])
        for before, after in zip(pages, without_running_heads(pages), strict=True):
            assert [after.text[word.start : word.end] for word in after.words] == after.text.split()
            assert {word[2:] for word in after.words} <= {word[2:] for word in before.words}

    @pytest.mark.parametrize(
        "number",
        ["{}", "- {} -", "Page {} of 90", "{}/90", "Seite {}", "F-{}", "{} NORTH SEA, INC.", "The North Sea  {}"],
    )
    def test_page_numbers_go_wherever_they_float(self, number: str) -> None:
        feet = [[(0.8 + 0.03 * (n % 4), number.format(n + 11))] for n in range(1, 7)]
        found = texts(book(NOTHING, feet))
        assert [len(lines) for lines in found] == [3, 2, 2, 2, 2, 2]

    def test_roman_numbers(self) -> None:
        assert [len(x) for x in texts(book(NOTHING, [[(0.9, n)] for n in "iii iv v vi vii viii".split()]))][1:] == [
            2
        ] * 5

    def test_heads_of_left_and_right_pages_alternate(self) -> None:
        heads = [[(0.05, (f"The tides  {n}" if n % 2 else f"{n}  Of the North"))] for n in range(6)]
        assert [len(lines) for lines in texts(book(heads, NOTHING))] == [3, 3, 2, 2, 2, 2]


class TestKept:
    @pytest.mark.parametrize(
        "heads",
        [
            [f"Inspection of room {n}" for n in range(1, 7)],
            [f"Invoice KX-{n * 811}" for n in range(1, 7)],
            ["Chapter one", "Tides", "Chapter two", "Boats", "Chapter three", "Frost"],
            ["The same head", "Other", "More", "Words", "The same head", "End"],
        ],
    )
    def test_what_differs(self, heads: list[str]) -> None:
        pages = book([[(0.05, head)] for head in heads], NOTHING)
        assert list(without_running_heads(pages)) == pages

    def test_a_first_line_of_the_text_that_repeats(self) -> None:
        """It does not stand apart from what follows."""
        pages = [
            page(n, (0.1, "It was a cold day."), (0.12, BODY[n % 6]), (0.14, f"{n * 7919} carts.")) for n in range(1, 7)
        ]
        assert list(without_running_heads(pages)) == pages

    def test_pages_that_are_all_alike_stay(self) -> None:
        pages = [page(n, (0.4, "The tide turned early.")) for n in range(1, 7)]
        assert list(without_running_heads(pages)) == pages

    def test_two_pages_are_no_document_with_heads(self) -> None:
        pages = book([[(0.05, "Works of the harbour")]] * 6, NOTHING)[:2]
        assert list(without_running_heads(pages)) == pages

    def test_column_heads_of_a_table_that_goes_on(self) -> None:
        pages = book([[(0.05, "Works of the harbour"), (0.08, "City  Code  Year")]] * 6, NOTHING)
        assert all("City  Code  Year" in each.text for each in without_running_heads(pages))

    def test_pages_without_text(self) -> None:
        empty = [ParsedPage(n, str(n), "", "scanned", 595.0, 842.0, ()) for n in range(1, 6)]
        assert list(without_running_heads(empty)) == empty
