"""Streaming: what is said over and over is said once."""

import pytest

from app.streaming import without_echo

CLAUSE = "and the keeper of the lamp of the red sector, "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 12. It is 12.", "It is 12."),
        ("It is 12. It is 13. It is", "It is 12. It is 13."),
        (f"He was the keeper {CLAUSE * 2}", f"He was the keeper {CLAUSE.strip()}"),
        ("the the the the the the the the", "the"),
        ("very, very tall", "very, very tall"),
        ("The code of Oslo is 1. The code of Alta is 2. The code of Vardo is 3.", None),
        ("灯塔高灯塔高灯塔高灯塔高", "灯塔高"),
        ("no no no", "no no no"),
        ("", ""),
    ],
)
def test_repetition_goes(text: str, expected: str | None) -> None:
    assert without_echo(text) == (text if expected is None else expected)


def test_a_clause_that_comes_back_between_other_words() -> None:
    said = "a member of the royal society of the arts of {} and"
    text = " ".join(said.format(place) for place in ("Oslo", "Alta", "Vardo", "Narvik"))
    assert "Vardo" not in without_echo(text)
