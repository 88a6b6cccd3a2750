"""The second witness: numbers must all be held, words for the most part."""

import pytest

from app.answer_support import supports


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
