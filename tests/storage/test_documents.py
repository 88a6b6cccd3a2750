"""Documents and pages: kept once, found again, searched, gone when deleted."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from storage import NotStored, Page, Store, unpack_words
from tests.storage.rows import A, B, document, filled, page


def test_a_document_is_added_once(store: Store) -> None:
    first = store.add_document(document(file_name="first.pdf"))
    again = store.add_document(document(file_name="second.pdf"))
    assert again == first
    assert [each.file_name for each in store.documents()] == ["first.pdf"]
    assert store.document(A) == first
    assert store.document(B) is None


def test_a_document_can_be_added_again_after_it_was_deleted(store: Store) -> None:
    mine = document()
    store.add_document(mine)
    store.delete_document(A)
    store.add_document(mine)
    assert store.document(A) == mine


def test_pages_are_replaced_as_a_whole(store: Store) -> None:
    store.add_document(document())
    store.save_pages(A, "Old", [], [page(1, "alpha"), page(2, "beta"), page(3, "gamma")])
    saved = store.save_pages(A, "Title", [(1, "Part I", 1), (2, "Item 1", 2)], [page(2, "delta"), page(1, "")])

    assert (saved.title, saved.state, saved.num_pages) == ("Title", "parsed", 2)
    assert store.document(A) == saved
    assert saved.outline == store.document(A).outline == [(1, "Part I", 1), (2, "Item 1", 2)]
    assert [(each.number, each.text, each.label) for each in store.pages(A)] == [(1, "", "F-1"), (2, "delta", "F-2")]
    assert store.page(A, 3) is None
    assert unpack_words(store.page(A, 2).words)[0][:2] == (0, 5)
    assert store.search_pages(A, ["alpha"], 5) == []
    assert [number for number, _ in store.search_pages(A, ["delta"], 5)] == [2]


def test_failing_pages_leave_the_old_ones(store: Store) -> None:
    store.add_document(document())
    store.save_pages(A, "Old", [], [page(1, "alpha")])

    def torn() -> Iterator[Page]:
        yield page(1, "beta")
        raise ValueError("the parser died")

    with pytest.raises(ValueError, match="the parser died"):
        store.save_pages(A, "New", [], torn())
    twice = [page(1, "beta"), page(1, "gamma")]
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.save_pages(A, "New", [], twice)
    assert store.document(A).title == "Old"
    assert [each.text for each in store.pages(A)] == ["alpha"]
    assert [number for number, _ in store.search_pages(A, ["alpha", "beta"], 5)] == [1]


def test_page_states_are_in_order(store: Store) -> None:
    store.add_document(document())
    store.save_pages(A, "T", [], [page(3, "", "scanned"), page(1, "x"), page(2, "", "unreadable")])
    assert store.page_states(A) == [(1, "ok"), (2, "unreadable"), (3, "scanned")]


def test_tags_stay_with_a_document(store: Store) -> None:
    store.add_document(document())
    assert store.document(A).tags == []
    store.tag_document(A, ["Tax", "2024"])
    store.save_pages(A, "T", [], [page(1, "x")])
    assert store.document(A).tags == ["Tax", "2024"]
    with pytest.raises(NotStored):
        store.tag_document(B, ["tax"])


def test_a_shelf_tells_what_each_document_by_itself_would(store: Store) -> None:
    reading_id, _, _ = filled(store)
    store.add_document(document(B))
    store.save_pages(B, "T", [], [page(1, "x"), page(2, "", "scanned"), page(3, "", "scanned")])
    b, a = store.shelf()
    assert [(each.document.id, each.pages) for each in (a, b)] == [(A, {"ok": 2}), (B, {"ok": 1, "scanned": 2})]
    assert (a.readings, b.readings) == (store.readings(A), [])
    assert a.sections == {reading_id: store.read_so_far(reading_id)} and b.sections == {}
    assert store.shelf(A) == [a] and store.shelf("") == store.shelf("c" * 64) == []
    store.doom_document(A)
    assert [each.document.id for each in store.shelf()] == [B]


def test_a_shelf_asks_as_seldom_for_many_documents_as_for_one(store: Store) -> None:
    asked: list[str] = []
    event.listen(store._database.engine, "before_cursor_execute", lambda *facts: asked.append(facts[2]))
    filled(store)
    asked.clear()
    store.shelf()
    alone = len(asked)
    for each in "cdef":
        filled(store, each * 64)
    asked.clear()
    assert len(store.shelf()) == 5 and len(asked) == alone


def test_a_rejected_document_says_why(store: Store) -> None:
    store.add_document(document())
    store.reject_document(A, "It is empty.", "Try another.")
    assert store.document(A).state == "rejected"
    assert store.document(A).error == {"message": "It is empty.", "hint": "Try another."}
    assert store.save_pages(A, "T", [], []).error is None


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotStored, match=f"no document {A}"):
        store.save_pages(A, "T", [], [])
    with pytest.raises(NotStored, match="document"):
        store.reject_document(A, "m", "h")
    with pytest.raises(NotStored, match="document"):
        store.doom_document(A)


def test_documents_are_searched_and_newest_first(store: Store) -> None:
    for days, (key, title, name) in enumerate(
        [("1" * 64, "Größe der Flotte", "fleet.pdf"), ("2" * 64, "Annual report", "a_100%.pdf"), (B, "Annual", "b.pdf")]
    ):
        each = document(key, title, name)
        each.created_at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days)
        store.add_document(each)
    assert [each.id[0] for each in store.documents()] == ["b", "2", "1"]
    assert [each.id[0] for each in store.find_documents("annu")] == ["b", "2"]
    assert [each.id[0] for each in store.find_documents("REPORT a_")] == ["2"]
    assert [each.id[0] for each in store.find_documents("GRÖSSE")] == ["1"]
    assert [each.id[0] for each in store.find_documents("100%")] == ["2"]

    assert [each.id[0] for each in store.find_documents("annual")] == ["b"]
    assert [each.id[0] for each in store.find_documents("2222")] == ["2"]
    assert [each.id[0] for each in store.find_documents("flotte")] == ["1"]
    assert [each.id[0] for each in store.find_documents("FLEET.pdf")] == ["1"]
    assert [each.id[0] for each in store.find_documents("b")] == ["b"]
    store.add_document(document("c" * 64, "Bees", "bees.pdf"))
    assert {each.id[0] for each in store.find_documents("b")} == {"b", "c"}
    assert store.find_documents(" ") == []


def test_times_come_back_in_utc(store: Store) -> None:
    each = document()
    each.created_at = datetime.fromisoformat("2024-06-01T12:00:00+02:00")
    store.add_document(each)
    assert store.document(A).created_at == datetime(2024, 6, 1, 10, tzinfo=UTC)
    assert store.document(A).created_at.tzinfo is UTC


def test_page_search_stems_folds_and_ranks(store: Store) -> None:
    store.add_document(document())
    texts = ["the fleet grew", "streaming revenues of the fleet; revenue rose", "revenue", "costs", "café", "other"]
    store.save_pages(A, "T", [], [page(number, text) for number, text in enumerate(texts, start=1)])
    found = store.search_pages(A, ["revenue", "fleets"], 2)
    assert [number for number, _ in found] == [2, 3]
    assert found[0][1] > found[1][1] > 0
    assert [number for number, _ in store.search_pages(A, ["CAFE"], 5)] == [5]
    assert [number for number, _ in store.search_pages(A, ["streaming revenue"], 5)] == [2]


@pytest.mark.parametrize("term", ['"', "???", "", " ", "a OR", "NEAR(", "*", "fleet*", "text:", "-", "'", "\0", "\0x"])
def test_page_search_takes_any_term_as_plain_words(store: Store, term: str) -> None:
    store.add_document(document())
    store.save_pages(A, "T", [], [page(1, "the fleet"), page(2, "nothing")])
    assert [number for number, _ in store.search_pages(A, [term, "fleet"], 5)] == [1]
    store.search_pages(A, [term], 5)


def test_page_search_takes_very_many_terms(store: Store) -> None:
    store.add_document(document())
    store.save_pages(A, "T", [], [page(1, "w4999"), page(2, "nothing")])
    assert [number for number, _ in store.search_pages(A, [f"w{n}" for n in range(5000)], 5)] == [1]


def test_page_search_before_the_pages_finds_nothing(store: Store) -> None:
    store.add_document(document())
    assert store.search_pages(A, ["fleet"], 5) == []


def test_page_scores_do_not_depend_on_other_documents(store: Store) -> None:
    pages = [page(1, "zebra zebra apple"), page(2, "zebra banana"), page(3, "cherry"), page(4, "plum"), page(5, "fig")]
    store.add_document(document(A))
    store.save_pages(A, "T", [], pages)
    alone = store.search_pages(A, ["zebra", "apple"], 5)
    store.add_document(document(B))
    store.save_pages(B, "T", [], [page(number, "apple apple pie") for number in range(1, 50)])
    assert store.search_pages(A, ["zebra", "apple"], 5) == alone


def test_delete_removes_everything_of_one_document(store: Store) -> None:
    reading_id, section_ids, conversation_id = filled(store, A, "zanzibar")
    other_reading_id, _, other_conversation_id = filled(store, B, "madagascar")

    files, identities = store.doom_document(A)
    assert files == [f"aaaa-{section_id}-0.pod" for section_id in section_ids]
    assert identities == {store.section(section_id).identity for section_id in section_ids}
    assert store.document(A) is None
    assert [each.id for each in store.documents()] == [B]
    assert store.doomed_documents() == [A]
    store.delete_document(A)

    assert store.doomed_documents() == []
    assert store.document(A) is None
    assert store.pages(A) == []
    assert store.search_pages(A, ["zanzibar"], 5) == []
    assert store.reading(reading_id) is None
    assert [store.section(section_id) for section_id in section_ids] == [None, None]
    assert store.conversation(conversation_id) is None
    assert store.messages(conversation_id) == []

    assert len(store.search_pages(B, ["madagascar"], 5)) == 2
    assert store.reading(other_reading_id) is not None
    assert len(store.messages(other_conversation_id)) == 2
    assert all(name.startswith("bbbb") for name in store.all_block_files())


def test_a_given_name_stays_when_the_file_is_read_anew(store: Store) -> None:
    store.add_document(document())
    store.save_pages(A, "From the file", [], [page(1, "some text")])
    assert store.document(A).title == "From the file"
    store.rename_document(A, "Mine")
    store.save_pages(A, "From the file again", [], [page(1, "some text")])
    assert store.document(A).title == "Mine"
    with pytest.raises(NotStored):
        store.rename_document(B, "Mine")
