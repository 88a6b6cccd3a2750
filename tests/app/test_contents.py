"""Chapters from a printed table of contents: told from other tables, and led to their pages."""

import pytest

from app.contents import asked_of, bare, body, chapters, printed_contents, printed_on
from storage import Page

BODY = (
    "Tides\n\nThe moon draws the water.",
    "More of it.",
    "Mooring\n\nTwo lines at the bow.",
    "Storms\n\nDouble all lines.",
    "Appendix A\n\nTables.",
)


def pages(*texts: str, labels: str = "") -> list[Page]:
    names = labels.split() or [str(number) for number in range(1, len(texts) + 1)]
    return [
        Page(number=number, label=label, text=text, state="ok", width_pt=1.0, height_pt=1.0, words=b"")
        for number, (text, label) in enumerate(zip(texts, names, strict=True), 1)
    ]


DOTTED = "Table of Contents\n\n1. Tides .......... 1\n2. Mooring . . . . . . 3\n3. Storms........4\nAppendix A ____ 5"
GAPS = "C O N T E N T S\n\nForeword  i\nChapter I: Tides  1\nEbb  1\nFlood  1\nChapter II: Mooring  3\nBow lines  3"
GERMAN = "Inhaltsverzeichnis\nTides  1\nMooring  3\nStorms  4\nAppendix A  5"


@pytest.mark.parametrize(
    ("table", "entries"),
    [
        (DOTTED, [(1, "1. Tides", 3), (1, "2. Mooring", 5), (1, "3. Storms", 6), (1, "Appendix A", 7)]),
        (GERMAN, [(1, "Tides", 3), (1, "Mooring", 5), (1, "Storms", 6), (1, "Appendix A", 7)]),
        (
            GAPS,
            [
                (1, "Foreword", 2),
                (1, "Chapter I: Tides", 3),
                (2, "Ebb", 3),
                (2, "Flood", 3),
                (1, "Chapter II: Mooring", 5),
                (2, "Bow lines", 5),
            ],
        ),
    ],
    ids=["dots", "a heading", "parts"],
)
def test_a_printed_table_leads_to_the_pages(table: str, entries: list[tuple[int, str, int]]) -> None:
    found = printed_contents(pages("The Harbour Book", table, *BODY, labels="i ii 1 2 3 4 5"))
    assert found == entries


@pytest.mark.parametrize(
    "text",
    [
        "Fees\nBoats  120\nCarts  48\nCranes  300\nTugs  12",
        "Contents\nBoats  120\nCarts  48\nCranes  30\nTugs  12",
        "Contents\nTides  1\nMooring  3",
    ],
    ids=["no heading", "figures that fall", "too short"],
)
def test_other_tables_are_none(text: str) -> None:
    assert printed_contents(pages(text, *BODY)) == []


def test_an_entry_whose_page_is_not_there_leads_to_the_table() -> None:
    (*_, last) = printed_contents(pages(DOTTED.replace("5", "412"), *BODY))
    assert last == (1, "Appendix A", 1)


@pytest.mark.parametrize(
    ("question", "titles"),
    [
        ("What are the chapters?", ["1. Tides", "2. Mooring", "3. Storms", "Appendix A"]),
        ("How many chapters are there?", ["1. Tides", "2. Mooring", "3. Storms"]),
        ("What are the last two chapters?", ["2. Mooring", "3. Storms"]),
        ("Name the first 1 chapters", ["1. Tides"]),
        ("What is the last chapter?", ["3. Storms"]),
    ],
)
def test_which_of_them(question: str, titles: list[str]) -> None:
    top = chapters(printed_contents(pages(DOTTED, *BODY)))
    chosen = [title for title, _ in asked_of(question, top)]
    assert chosen == titles
    if len(titles) > 1:
        where = printed_on(pages("x", DOTTED, *BODY), titles)
        assert where and where.page == 2 and where.text.startswith("1." if titles[0][0] == "1" else "2.")
        assert titles[-1] in where.text and where.text[-1].isdigit()


def test_what_stands_behind_is_no_part_of_the_body() -> None:
    entries = [(1, "Tides", 1), (2, "References of the tides", 2), (1, "Item 7. Exhibits", 4), (1, "Summary", 5)]
    assert [page.number for page in body(pages(*BODY), entries)] == [1, 2, 3]
    assert len(body(pages(*BODY), [(1, "Index of maps", 1), (1, "Appendix B", 5)])) == 4
    assert len(body(pages(*BODY), [(1, "Index", 1)])) == len(body(pages(*BODY), [])) == 5


@pytest.mark.parametrize("head", ["TABLE OF CONTE NTS", "C o n t e n t s", "目 录"])
def test_the_heading_may_be_spaced(head: str) -> None:
    table = head + "\nTides  2\nMooring  3\nStorms  4\nRopes  5"
    assert [title for _, title, _ in printed_contents(pages(table, *BODY))] == ["Tides", "Mooring", "Storms", "Ropes"]


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Chapter 3: Tides", "Tides"),
        ("Part II Item 7. Storms of 1990", "Storms of 1990"),
        ("1.2 What Item 9 says", "What Item 9 says"),
        ("Appendix A", ""),
    ],
)
def test_only_what_stands_in_front_of_a_title_is_left_out(title: str, words: str) -> None:
    assert bare(title) == words
