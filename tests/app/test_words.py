"""Words: what a question is searched by, and when two words count as the same."""

import pytest

from app.words import stem, stems, terms, words


def test_words_know_their_characters() -> None:
    text = "Sales of X-220: 11,692.7 m (don’t ask)."
    found = words(text)
    assert [word for word, _, _ in found] == ["sales", "of", "x", "220", "11692.7", "m", "don't", "ask"]
    assert [text[start:end] for _, start, end in found] == ["Sales", "of", "X", "220", "11,692.7", "m", "don’t", "ask"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bergen,2024,7731", ["bergen", "2024", "7731"]),
        ("Keeper:Vale,Ingrid;berth:17.The", ["keeper", "vale", "ingrid", "berth", "17", "the"]),
        ("1,250,000 or 1\u202f250\u202f000", ["1250000", "or", "1250000"]),
        ("on 12.03.2021, 4.5 m", ["on", "12.03.2021", "4.5", "m"]),
        ("FY2019, fy 19 and CY21", ["fiscal", "2019", "fiscal", "19", "and", "fiscal", "2021"]),
        ("２０２３４", ["20234"]),
    ],
)
def test_numbers_are_whole_and_lists_without_spaces_are_not(text: str, expected: list[str]) -> None:
    assert [word for word, _, _ in words(text)] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ålesund", "Alesund"),
        ("Müller", "Mu\u0308ller"),
        ("Élan", "elan"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("مَكتب", "مكتب"),
        ("إلى", "الى"),
        ("Whitlock’s", "whitlock"),
    ],
)
def test_words_are_compared_without_accents(one: str, other: str) -> None:
    assert [word for word, _, _ in words(one)] == [word for word, _, _ in words(other)]


@pytest.mark.parametrize("word", ["निर्माण", "कार्यालय", "వికీపీడియా"])
def test_a_word_keeps_its_marks(word: str) -> None:
    assert [text for text, _, _ in words(f"{word}, {word}")] == [word, word]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Какой код у конторы?", ["код", "конторы"]),
        ("¿Dónde está el código?", ["esta", "codigo"]),
        ("Où est le phare ?", ["phare"]),
        ("桥是什么颜色？", ["桥"]),
    ],
)
def test_words_that_every_question_has_are_left_out_in_every_language(question: str, expected: list[str]) -> None:
    assert terms(question) == expected


def test_arabic_words_are_compared_without_article_and_ending() -> None:
    assert stems("المستودعات مكتبة") == stems("مستودعا المكتب")


def test_every_two_signs_are_a_word_where_no_spaces_part_them() -> None:
    assert [word for word, _, _ in words("门禁密码A7号")] == ["门禁", "禁密", "密码", "a7", "号"]


def test_words_of_other_scripts() -> None:
    assert [word for word, _, _ in words("Größe, 漢字 и «Москва»")] == ["grosse", "漢字", "и", "москва"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the access code of the Bergen office?", ["access", "code", "bergen", "office"]),
        ("Who is Ada Whitlock's successor, and whose is Ada’s?", ["ada", "whitlock", "successor"]),
        ("code code CODE", ["code"]),
        ("What is it about?", ["what", "is", "it", "about"]),
        ("?!", []),
        ("卑尔根办公室的门禁密码是什么？", ["卑尔", "尔根", "根办", "办公", "公室", "门禁", "禁密", "密码"]),
        ("入館番号は何ですか", ["入館", "館番", "番号"]),
        ("Wie viel zahlt Östersund?", ["zahlt", "ostersund"]),
        ("Сколько платит Осло?", ["платит", "осло"]),
        ("When was MIT founded?", ["mit", "founded"]),
    ],
)
def test_terms_are_what_the_question_is_about(question: str, expected: list[str]) -> None:
    assert terms(question) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("closed", "closing"),
        ("company", "companies"),
        ("operations", "operation"),
        ("painted", "paint"),
        ("fees", "fee"),
        ("cars", "car"),
        ("контору", "конторы"),
    ],
)
def test_forms_of_a_word_meet(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("1990s", "1990"), ("q1", "q2"), ("bus", "bu"), ("gas", "ga")])
def test_short_words_and_figures_are_left_alone(one: str, other: str) -> None:
    assert stem(one) == one
    assert stem(one) != stem(other)


def test_stems_of_a_text() -> None:
    assert stems("Closing the closed 12 doors") == {stem("closed"), "the", "12", stem("doors")}
