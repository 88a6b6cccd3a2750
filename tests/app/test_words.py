"""Words: what a question is searched by, and when two words count as the same."""

import pytest

from app.words import stem, stems, terms, words


def test_words_know_their_characters() -> None:
    text = "Sales of X-220: 11,692.7 m (don’t ask)."
    found = words(text)
    assert [word for word, _, _ in found] == ["sales", "of", "x-220", "11,692.7", "m", "don’t", "ask"]
    assert all(text[start:end].lower() == word for word, start, end in found)


def test_words_of_other_scripts() -> None:
    assert [word for word, _, _ in words("Größe, 漢字 и «Москва»")] == ["größe", "漢字", "и", "москва"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the access code of the Bergen office?", ["access", "code", "bergen", "office"]),
        ("Who is Ada Whitlock's successor, and whose is Ada’s?", ["ada", "whitlock", "successor"]),
        ("code code CODE", ["code"]),
        ("What is it about?", ["what", "is", "it", "about"]),
        ("?!", []),
    ],
)
def test_terms_are_what_the_question_is_about(question: str, expected: list[str]) -> None:
    assert terms(question) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("closed", "closing"), ("company", "companies"), ("operations", "operation"), ("painted", "paint")],
)
def test_forms_of_a_word_meet(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("1990s", "1990"), ("q1", "q2"), ("bus", "bu"), ("x-220s", "x-220")])
def test_short_words_and_figures_are_left_alone(one: str, other: str) -> None:
    assert stem(one) == one
    assert stem(one) != stem(other)


def test_stems_of_a_text() -> None:
    assert stems("Closing the closed 12 doors") == {stem("closed"), "the", "12", stem("doors")}
