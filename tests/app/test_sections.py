"""Sections: cut at page boundaries, found again from what is stored, and a way back from every token to its page."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from app.sections import PageTokens, SectionText, cut, restore, tokenize
from engine.models.tokenizer import Tokenizer

HEAD = (1, 2, 3)
ALPHABET = "abc  \n.,0123é漢🙂👩‍👩‍👧ﬁ\u00a0\t"


@pytest.fixture(scope="module", params=["bytes", "embedded"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bytes":
        return Tokenizer(request.getfixturevalue("tiny_tokenizer"))
    folder: Path = request.getfixturevalue("embedded_model_dir")
    return Tokenizer(AutoTokenizer.from_pretrained(folder))


def page(number: int, size: int) -> PageTokens:
    return PageTokens(number, tuple(range(size)), tuple((index, index + 1) for index in range(size)))


def sizes(sections: list[SectionText]) -> list[int]:
    return [len(section.ids) - len(HEAD) for section in sections]


def test_a_document_that_fits_has_one_section() -> None:
    (section,) = cut([page(1, 40), page(2, 0), page(3, 57)], HEAD, 100)
    assert section.ids == [*HEAD, *range(40), *range(57)]
    assert (section.first_page, section.last_page) == (1, 3)
    assert cut([page(1, 0)], HEAD, 100) == cut([], HEAD, 100) == []


def test_pages_stay_whole() -> None:
    sections = cut([page(number, 30) for number in range(1, 11)], HEAD, 103)
    assert [[each.number for each in section.pages] for section in sections] == [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8],
        [9, 10],
    ]
    assert all(len(piece.ids) == 30 for section in sections for piece in section.pages)


@pytest.mark.parametrize("seed", range(40))
def test_sections_fit_and_are_filled_evenly(seed: int) -> None:
    rng = random.Random(seed)
    room = rng.choice([100, 1000, 6656])
    largest = rng.choice([room // 20, room // 5, room // 2])
    pages = [page(number, rng.randint(1, largest)) for number in range(1, rng.randint(2, 150))]
    sections = cut(pages, HEAD, room + len(HEAD))
    assert max(sizes(sections)) <= room
    assert [piece for section in sections for piece in section.pages] == pages
    assert max(sizes(sections)) - min(sizes(sections)) <= 3 * largest


def test_a_page_that_is_longer_than_a_section_is_cut_inside() -> None:
    sections = cut([page(1, 20), page(2, 250), page(3, 20)], HEAD, 103)
    assert [(section.first_page, section.start_char, section.last_page, section.end_char) for section in sections] == [
        (1, 0, 1, 20),
        (2, 0, 2, 100),
        (2, 100, 2, 200),
        (2, 200, 3, 20),
    ]


def test_a_character_of_several_tokens_stays_whole(tiny_tokenizer) -> None:
    text = "a" + "漢" * 60
    sections = cut([tokenize(1, text, Tokenizer(tiny_tokenizer))], HEAD, len(HEAD) + 50)
    assert len(sections) > 2
    for before, after in pairwise(sections):
        assert before.end_char == after.start_char


@pytest.mark.parametrize("seed", range(15))
def test_what_is_stored_gives_the_same_ids_again(tokenizer: Tokenizer, seed: int) -> None:
    rng = random.Random(seed)
    texts = ["".join(rng.choices(ALPHABET, k=rng.choice([0, 3, 80, 700]))) for _ in range(12)]
    pages = [tokenize(number, text, tokenizer) for number, text in enumerate(texts, 1)]
    for section in cut(pages, HEAD, 150):
        own = pages[section.first_page - 1 : section.last_page]
        again = restore(section.start_char, len(section.ids), own, HEAD)
        assert again == section or again.ids == section.ids
        for read in (len(HEAD) + 1, len(section.ids) // 2 + len(HEAD), len(section.ids)):
            assert restore(section.start_char, read, own, HEAD).ids == section.ids[:read]


def test_every_token_knows_its_page_and_characters(tokenizer: Tokenizer) -> None:
    texts = ["The café opens at 9.\nTwo lines.", "", "漢字 and 🙂", "last"]
    pages = [tokenize(number, text, tokenizer) for number, text in enumerate(texts, 1)]
    (section,) = cut(pages, HEAD, 1000)
    assert [section.locate(slot) for slot in range(len(HEAD))] == [None] * len(HEAD)
    assert section.locate(len(section.ids)) is None
    covered: dict[int, set[int]] = {number: set() for number in (1, 3, 4)}
    order = []
    for slot in range(len(HEAD), len(section.ids)):
        number, start, end = section.locate(slot)
        order.append(number)
        covered[number] |= set(range(start, end))
        text = texts[number - 1]
        assert 0 <= start <= end <= len(text)
        plain = tokenizer.decode([section.ids[slot]]).strip()
        if plain.isascii() and plain:
            assert plain in text[start:end]
    assert order == sorted(order)
    assert covered == {number: set(range(len(texts[number - 1]))) for number in covered}
    assert [each.number for each, _ in section.page_slots()] == [1, 3, 4]


def test_a_page_of_space_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenize(7, " \n\t ", tokenizer) == PageTokens(7, (), ())


def test_a_pages_tokens_do_not_depend_on_its_neighbours(tokenizer: Tokenizer) -> None:
    alone = tokenize(2, "ends without a stop", tokenizer)
    both = cut([tokenize(1, "No stop here", tokenizer), alone], HEAD, 1000)
    assert both[0].ids[-len(alone.ids) :] == list(alone.ids)
