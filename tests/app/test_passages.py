"""Passages: what can be quoted, whole sentences where there are any, and where they stand on the page."""

import random

import pytest

from app.passages import MAX_CHARS, Passage, boxes, split
from app.readers import Word


def quotes(text: str) -> list[str]:
    return [passage.quote for passage in split(1, text)]


def test_sentences() -> None:
    text = "The bridge opened in 1957. It cost 3.5 million; Nobody\nhas paid since! Why? “Because.” (See p. 4.)"
    assert quotes(text) == [
        "The bridge opened in 1957.",
        "It cost 3.5 million;",
        "Nobody has paid since!",
        "Why? “Because.”",
        "(See p. 4.)",
    ]


def test_a_full_line_that_ends_with_a_figure_is_no_row_of_a_table() -> None:
    text = (
        "The optic is the first one, made of prisms by Vasseline. It weighs 3.8\n"
        "tonnes, and floats in a bath of mercury, which a child can turn by hand.\n\n"
        "Tonnes of fuel 3.8\nof which abroad 1.2"
    )
    assert quotes(text)[1:] == [
        "It weighs 3.8 tonnes, and floats in a bath of mercury, which a child can turn by hand.",
        "Tonnes of fuel 3.8",
        "of which abroad 1.2",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Quell and Dr. Holm met at St. Aldric's.",
        "Hythe Corp. Ltd. and others, Inc. Delaware",
        "Signed by J. R. Whitlock in person.",
        "See Fig. 3 and Sec. 12, e.g. No. 7.",
        "It rose 3.5 % to 11,692.7 in the U.S. and elsewhere.",
    ],
)
def test_abbreviations_and_figures_do_not_end_a_sentence(text: str) -> None:
    assert quotes(text) == [text]


def test_list_items_and_paragraphs_are_passages_of_their_own() -> None:
    assert quotes(
        "Duties of porters\n\nThe porter shall always\n• lock the gate\n• feed the cats.\n– report fires\n\nEnd."
    ) == [
        "Duties of porters",
        "The porter shall always • lock the gate",
        "• feed the cats.",
        "– report fires",
        "End.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Access code of the office: 7731\nInvoice number: KX-20917\nColour: grey", 3),
        ("Application for a licence to sell fish in Hamar\nName of the shop: Petrel\nRooms: 4\nHanded in late.", 3),
        ("Keeper:Vale,Ingrid\nYard:Hamar\nBerth:17", 3),
        ("Опись\n\nКод конторы: 6623. Его меняют весной.", 3),
        ("卑尔根的密码是七七三一。奥斯陆起重机的保修期为九年！谁知道？", 3),
        ("It was sold for 930 crowns.Its buyer was a baker.", 2),
        ("Oslo pays 9 crowns. Östersund pays 930. Élan is poor. Šibenik is not.", 4),
        ("Город платит 930 крон. Спуск там плохой.", 2),
    ],
)
def test_values_and_sentences_of_every_script_end_where_they_end(text: str, expected: int) -> None:
    assert len(quotes(text)) == expected


@pytest.mark.parametrize(
    ("text", "together"),
    [
        (
            "Q: How long does it last?\nA: Seven years from delivery.\nQ: What is the toll?\nA: 85 crowns.",
            "last? A: Seven",
        ),
        ("What does it cost?\nIt is 85 crowns.\n\nWhere is it?", "cost? It is 85 crowns."),
        ("Opening hours of the archive\nNine to four, not on Mondays.", "archive Nine to four"),
    ],
)
def test_a_question_with_its_answer_and_a_heading_with_its_value_are_one(text: str, together: str) -> None:
    assert together in quotes(text)[0]


def test_what_stands_above_a_passage_is_known() -> None:
    text = (
        "Balance sheets\nin thousands\n2019 2020\nCash and deposits 12,500 14,100\nDebts 3,250 4,100\n"
        "Notes\nAll was paid by the end of the year, as was agreed."
    )
    found = split(1, text)
    cash, debts, note = (next(each for each in found if word in each.text) for word in ("Cash", "Debts", "paid"))
    assert cash.is_row and debts.is_row and not note.is_row
    assert cash.above == debts.above == "Balance sheets\nin thousands\n2019 2020"
    assert debts.quote == "Balance sheets\nin thousands\n2019 2020\nDebts 3,250 4,100"
    assert "Notes" in note.above or "Notes" in note.text


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("| Code | Vardo quay | 5512 |\n| --- | --- | --- |", ["Code | Vardo quay | 5512"]),
        ("| Quay | 5512 |\n| --- | --- |\n| Yard | 6620 |", ["Quay | 5512", "Quay | 5512\nYard | 6620"]),
        ("| Place | 2031 |\n| --- | --- |\n| Yard | 6620 |", ["Place | 2031\nYard | 6620"]),
    ],
    ids=["one row", "no heads", "heads"],
)
def test_a_table_without_heads_loses_no_row(table: str, rows: list[str]) -> None:
    assert [each.quote for each in split(1, f"{table}\n\nThe tide came at six.") if each.is_row] == rows


def test_words_in_columns_are_rows_below_their_heads() -> None:
    text = "The crew\nDuty  Name  Since\nPilot  Odd Brekke  2016\nCook  Ane Li  2018\n\nOne sentence.  Another one."
    rows = [each.quote for each in split(1, text) if each.is_row]
    heads = "The crew\nDuty  Name  Since\n"
    assert rows == [f"{heads}Pilot  Odd Brekke  2016", f"{heads}Cook  Ane Li  2018"]


def test_labels_with_values_are_rows_but_not_those_of_a_table_of_contents() -> None:
    values = ["Flour ground  2,310 tonnes", "Sacks mended  87", "Hardest frost, 9 January  31.5 °C"]
    text = "\n".join(["The mill in figures", *values, "", "All was weighed by the miller himself, as he said."])
    assert [each.text for each in split(1, text) if each.is_row] == values
    contents = "Contents\nThe light  4\nPower from the tide  6\nThe observatory  9"
    assert not any(each.is_row for each in split(1, contents))
    head = "Annual Report  2031\nThe light  4 lamps\n\nIt burns."
    assert not any(each.is_row for each in split(1, head))


def test_a_sentence_goes_on_behind_the_end_of_its_page() -> None:
    first = "The council met.\nSince last year the price of a season ticket\n3"
    second = "to the Alta museum is 412 crowns for all. Visitors come by boat."
    whole = "Since last year the price of a season ticket to the Alta museum is 412 crowns for all."
    assert [each.quote for each in split(3, first, "", second)][1] == whole
    above, below = split(4, second, first)[:2]
    assert (above.quote, below.quote) == (whole, "Visitors come by boat.")
    assert above.text == second[above.start : above.end]
    assert split(4, second, "It ended here.")[0].before == ""


def test_a_long_table_is_cut_at_its_lines() -> None:
    rows = [f"Region {number:2d}   {number * 1234:>8,}   {number * 7:>5}" for number in range(40)]
    passages = split(3, "\n".join(rows))
    assert len(passages) > 3
    assert [row for passage in passages for row in passage.text.strip("\n").split("\n")] == rows


def test_a_long_line_is_cut_between_words_and_a_long_word_anywhere() -> None:
    line = "word " * 200
    assert all(set(passage.text.split()) == {"word"} for passage in split(1, line))
    assert [len(passage.text) for passage in split(1, "x" * 900)] == [MAX_CHARS, MAX_CHARS, 900 - 2 * MAX_CHARS]


@pytest.mark.parametrize("seed", range(50))
def test_every_character_is_in_exactly_one_passage(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [
        "The ",
        "end.",
        ' "Quoted." ',
        "said (so.) ",
        "\n",
        "\n\n",
        "• item ",
        " – ",
        "A",
        "b ",
        "12.5 ",
        "漢字。",
    ]
    pieces += ["Mr. ", "!”) ", "x" * 90]
    text = "".join(rng.choices(pieces, k=rng.randint(1, 120)))
    passages = split(4, text)
    covered = [0] * len(text)
    for passage in passages:
        assert passage.page == 4
        assert passage.text == text[passage.start : passage.end]
        assert passage.text.strip() and len(passage.text) <= MAX_CHARS
        for index in range(passage.start, passage.end):
            covered[index] += 1
    assert [(passage.start, passage.end) for passage in passages] == sorted((p.start, p.end) for p in passages)
    assert max(covered, default=0) <= 1
    assert [text[index] for index, times in enumerate(covered) if not times and not text[index].isspace()] == []


def typeset(*lines: tuple[str, float, float]) -> tuple[str, list[Word]]:
    """Text and words of lines (text, left, top), each letter 0.01 wide and each line 0.02 high."""
    text, words = "", []
    for line, left, top in lines:
        x = left
        for part in line.split(" "):
            words.append(Word(len(text), len(text) + len(part), x, top, x + 0.01 * len(part), top + 0.02))
            text += part + " "
            x += 0.01 * (len(part) + 1)
        text = text[:-1] + "\n"
    return text, words


def whole(text: str) -> Passage:
    return Passage(1, 0, len(text), text)


def test_one_box_a_line() -> None:
    text, words = typeset(("The first line is", 0.1, 0.1), ("wide and the", 0.1, 0.13), ("last", 0.1, 0.16))
    found = boxes(whole(text), words)
    assert len(found) == 3
    assert found[0] == pytest.approx((0.1, 0.1, 0.27, 0.12))
    assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in found)


def test_only_the_words_of_the_passage_are_boxed() -> None:
    text, words = typeset(("Before it. The code is", 0.1, 0.1), ("4074. After it.", 0.1, 0.13))
    (passage,) = (each for each in split(1, text) if "code" in each.text)
    assert [tuple(round(edge, 3) for edge in box) for box in boxes(passage, words)] == [
        (0.21, 0.1, 0.32, 0.12),
        (0.1, 0.13, 0.15, 0.15),
    ]


def test_a_passage_that_goes_on_in_the_next_column_is_not_boxed_across_the_gutter() -> None:
    text, words = typeset(
        ("end of the left column", 0.08, 0.90), ("start of the right", 0.53, 0.08), ("column here", 0.53, 0.11)
    )
    found = boxes(whole(text), words)
    assert len(found) == 3
    assert not any(x0 < 0.5 < x1 for x0, _, x1, _ in found)


def test_lines_of_two_columns_at_one_height_are_not_merged() -> None:
    text, words = typeset(("left one", 0.08, 0.1), ("left two", 0.08, 0.13), ("right one", 0.6, 0.1))
    assert len(boxes(whole(text), words)) == 3


def test_a_passage_without_known_words_has_no_box() -> None:
    assert boxes(Passage(1, 5, 9, "text"), [Word(0, 4, 0.1, 0.1, 0.2, 0.2)]) == ()
