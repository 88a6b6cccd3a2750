"""The sample document reads as a newcomer will see it, and its questions can be answered from the pages they name."""

import json
from pathlib import Path

import pytest

from app.readers import ParsedPage, open_document, sniff

SAMPLE = Path(__file__).parents[2] / "app" / "sample"


@pytest.fixture(scope="module")
def pages() -> list[ParsedPage]:
    return list(open_document(SAMPLE / "sample.pdf", sniff(SAMPLE / "sample.pdf")).pages())


def test_every_page_is_read(pages: list[ParsedPage]) -> None:
    assert 24 <= len(pages) <= 32
    assert {page.state for page in pages} == {"ok"}
    assert [page.label for page in pages[:6]] == ["i", "ii", "iii", "iv", "1", "2"]
    assert (SAMPLE / "sample.pdf").stat().st_size < 400_000


def test_questions_are_answered_on_their_pages(pages: list[ParsedPage]) -> None:
    questions = json.loads((SAMPLE / "questions.json").read_text("utf-8"))
    assert len(questions) == 12
    for question in questions:
        assert question["answer"] in " ".join(pages[question["page"] - 1].text.split()), question


def test_the_outline_leads_to_its_headings(pages: list[ParsedPage]) -> None:
    outline = open_document(SAMPLE / "sample.pdf", "application/pdf").info.outline
    assert {entry.level for entry in outline} == {1, 2}
    for entry in outline:
        heading = entry.title.lstrip("0123456789 ")
        assert heading in pages[entry.page - 1].text.replace("’", "'"), entry
