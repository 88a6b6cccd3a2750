"""The second witness: numbers must all be held, words for the most part."""

import pytest

from app.answer_support import held_by, sentences, supports, unsupported


@pytest.mark.parametrize(
    ("answer", "quote", "expected"),
    [
        ("The code is 4074.", "The access code of room 3 is 4074.", True),
        ("The code is 4074.", "The access code of room 3 is 4073.", False),
        ("4,074", "room 40, door 74", False),
        ("It was $11,692.7 million in 2017.", "Revenues 2016 8,830.7 2017 11,692.7", True),
        ("It was $11,692.7 million in 2018.", "Revenues 2016 8,830.7 2017 11,692.7", False),
        ("It cost 12. Later 99 more were paid.", "The organ cost 12 crowns.", True),
        ("Ignatius Quell chaired the board.", "The water board has been chaired by Ignatius Quell.", True),
        ("A blue cabinet.", "The key is in the weighing room.", False),
        ("", "anything", False),
        (" \n", "", False),
        ("?", "?", False),
    ],
)
def test_supports(answer: str, quote: str, expected: bool) -> None:
    assert supports(answer, quote) is expected


@pytest.mark.parametrize(
    ("words", "quotes", "expected"),
    [
        ("The tower is 9 metres high.", ["The tower is 41.5 metres high."], ["9"]),
        ("The tower is 41.5 metres high.", ["The tower is 41.5 metres high."], []),
        ("It had 1284 pairs.", ["1,284 breeding pairs, 177 more than in 2026"], []),
        ("It lasts nine years.", ["The warranty lasts seven years."], ["nine"]),
        ("It lasts 7 years.", ["The warranty lasts seven years."], []),
        ("Twenty-three people work here.", ["23 people were employed"], []),
        ("The station is run by Triton Energy.", ["Director Maud Tarrant runs the station."], ["Triton", "Energy"]),
        ("Triton Energy runs it.", ["Director Maud Tarrant runs the station."], ["Triton", "Energy"]),
        ("Visitors came to Oslo in May.", ["In May the office at Oslo had visitors."], []),
        ("She came on 4 March 2016.", ["She was appointed in March 2016."], ["4"]),
        ("It was Maud’s idea.", ["the idea of Maud Tarrant"], []),
        ("Revenue was 39,117 in 2018 and 2019.", ["revenue 2019 39,117"], ["2018"]),
        ("It opened at 05:20.", ["Tongs was back at 05:20."], []),
        ("密码是七七三一。", ["卑尔根办公室的门禁密码是七七三一。"], []),
        ("密码是七七三二。", ["卑尔根办公室的门禁密码是七七三一。"], ["七七三二"]),
    ],
)
def test_what_no_passage_holds(words: str, quotes: list[str], expected: list[str]) -> None:
    assert [words[each.start : each.end] for each in unsupported(words, quotes)] == expected


def test_a_name_of_the_question_may_stand_elsewhere_on_the_page_and_must_stand_somewhere() -> None:
    words, quote, question = "The Vardo office earned 4.2 million.", "It earned 4.2 million.", "What did Vardo earn?"
    assert [each.form for each in unsupported(words, [quote], question, ["Offices: Bergen, Vardo."])] == []
    assert [each.form for each in unsupported(words, [quote], question, ["Offices: Bergen."])] == ["vardo"]


def test_the_passage_that_holds_a_sentence() -> None:
    quotes = ["The tower has 214 steps.", "The lens weighs 3.8 tonnes."]
    assert [
        held_by(each, quotes) for each in ("It weighs 3.8 tonnes.", "It has 214 steps.", "It weighs 4 tonnes.")
    ] == [
        2,
        1,
        0,
    ]


def test_sentences_and_lines() -> None:
    words = "It is 41.5 m high. It stands.\n- Oslo\n- Bergen"
    assert [words[slice(*each)] for each in sentences(words)] == [
        "It is 41.5 m high.",
        "It stands.",
        "- Oslo",
        "- Bergen",
    ]
