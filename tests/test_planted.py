"""The planted reports are what the measurements take them for."""

from itertools import pairwise
from pathlib import Path

import pytest
from pypdf import PdfReader

from benchmarks.evidence.planted import NUM_FACTS, planted_absent, planted_report
from benchmarks.evidence.prose import CITIES


def page_texts(path: Path) -> list[str]:
    """The text of each page on one line, as pypdf extracts it."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


@pytest.mark.parametrize("shape", ["one_shape", "varied"])
def test_every_fact_stands_on_its_page_and_nowhere_else(tmp_path: Path, shape: str) -> None:
    facts = planted_report(tmp_path / "report.pdf", pages=60, facts=shape, seed=3)
    texts = page_texts(tmp_path / "report.pdf")
    assert len(texts) == 60
    assert len(facts) == len({fact.question for fact in facts}) == NUM_FACTS
    for fact in facts:
        assert fact.answer in fact.sentence
        assert [number for number, text in enumerate(texts, 1) if fact.sentence in text] == [fact.page]
        assert sum(text.count(fact.answer) for text in texts) == 1
    pages = [fact.page for fact in facts]
    assert (pages[0], pages[-1]) == (1, 60)
    assert max(later - earlier for earlier, later in pairwise(pages)) <= 4


def test_pages_are_full_and_all_different(tmp_path: Path) -> None:
    planted_report(tmp_path / "report.pdf", pages=60)
    texts = page_texts(tmp_path / "report.pdf")
    assert all(300 <= len(text.split()) <= 420 for text in texts)
    assert len(set(texts)) == 60


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        planted_report(tmp_path / name, pages=3, seed=seed)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert (tmp_path / "first").read_bytes() != (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("shape", ["one_shape", "varied"])
def test_absent_questions_are_not_answered_by_any_fact(tmp_path: Path, shape: str) -> None:
    facts = planted_report(tmp_path / "report.pdf", pages=60, facts=shape)
    absent = planted_absent(shape)
    assert len(set(absent)) == 10
    assert not set(absent) & {fact.question for fact in facts}
    if shape == "one_shape":
        text = " ".join(page_texts(tmp_path / "report.pdf"))
        for question in absent:
            city = next(city for city in CITIES if city in question)
            assert city in text
            assert f"access code of the {city} office" not in text
