"""Routing: a question goes to the sections whose pages have its words."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.routing import Route
from storage import Document, Page, Section, Store, pack_token_ids, pack_words

A, B = "a" * 64, "b" * 64
TEXTS = (
    "The harbour was dredged in spring.",
    "The ferry to Little Marrow is called the Patient Heron.",
    "Nothing of note. The harbour again.",
    "The heron nests beside the quarry. A heron, another heron.",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'test.sqlite3'}")
    for document_id, texts in ((A, TEXTS), (B, ("The ferry, the ferry, the ferry.",))):
        store.add_document(Document(id=document_id, title="t", file_name="f", media_type="text/plain", num_bytes=1))
        store.save_pages(document_id, "t", [], [page(number, text) for number, text in enumerate(texts, 1)])
    yield store
    store.close()


def page(number: int, text: str) -> Page:
    return Page(
        number=number, label=str(number), text=text, state="ok", width_pt=1.0, height_pt=1.0, words=pack_words([])
    )


def section(position: int, first_page: int, last_page: int) -> Section:
    return Section(
        position=position,
        first_page=first_page,
        last_page=last_page,
        start_char=0,
        end_char=0,
        token_ids=pack_token_ids([]),
        num_tokens=0,
        identity="",
    )


SECTIONS = [section(0, 1, 2), section(1, 3, 4)]


def positions(found: Route) -> list[int]:
    return [each.position for each in found.order(SECTIONS)]


def test_the_section_with_the_best_page_comes_first(store: Store) -> None:
    assert positions(Route("What is the ferry called?", A, store)) == [0, 1]
    assert positions(Route("Where do herons nest?", A, store)) == [1, 0]


def test_pages_of_other_documents_do_not_count(store: Store) -> None:
    assert set(Route("ferry", A, store).pages) == {2}
    assert set(Route("ferry", B, store).pages) == {1}


def test_without_a_hit_sections_keep_their_order(store: Store) -> None:
    found = Route("zeppelin?", A, store)
    assert (found.pages, positions(found)) == ({}, [0, 1])


def test_pages_are_weighed_against_the_best(store: Store) -> None:
    found = Route("What of the harbour, the ferry and the heron?", A, store)
    assert max(found.pages.values()) == 1.0
    assert all(0 <= share <= 1 for share in found.pages.values())


def test_a_page_that_two_sections_share_counts_for_both(store: Store) -> None:
    shared = [section(0, 1, 1), section(1, 2, 2), section(2, 2, 3)]
    found = Route("the ferry to Little Marrow", A, store)
    assert [each.position for each in found.order(shared)] == [1, 2, 0]


def test_one_good_page_counts_more_than_several_poor_ones(store: Store) -> None:
    """The harbour is on a page of each section; what is asked about it only on one."""
    assert positions(Route("When was the harbour dredged?", A, store)) == [0, 1]
    assert positions(Route("Does the quarry heron nest at the harbour?", A, store)) == [1, 0]


@pytest.mark.parametrize("question", ['"', "NEAR(ferry", "ferry AND", "a* OR b:c", "'; DROP TABLE pages", "\0", "😀"])
def test_marks_of_the_search_language_are_plain_text(store: Store, question: str) -> None:
    Route(question, A, store)
    assert len(store.pages(A)) == len(TEXTS)
