"""Search: what holds some words is found and opens, whatever else there is; over a real database."""

from collections.abc import Sequence

import pytest

from app.main import App
from app.search import Excerpt, Found, Search
from storage import Document, Message, Page, Store, Viewer

HARBOUR = (
    "The harbour of Sund was dredged twice. Its keeper, Ole Brandt, kept a log.",
    "Nothing of note.",
    "A second dredging of the harbour began in May; the log says why.",
)
ORCHARD = ("Pears grow in the orchard. The keeper prunes them.",)


def add(store: Store, name: str, texts: Sequence[str]) -> str:
    document_id = name[0] * 64
    store.add_document(
        Document(id=document_id, title=name, file_name=f"{name}.txt", media_type="text/plain", num_bytes=1)
    )
    pages = [
        Page(number=number, label=f"{number}", text=text, state="ok", width_pt=595, height_pt=842, words=b"")
        for number, text in enumerate(texts, 1)
    ]
    store.save_pages(document_id, name, [], pages)
    return document_id


def say(store: Store, document_id: str, question: str, answer: str, owner: str = "") -> str:
    conversation = store.seen_by(Viewer(owner)).start_conversation(document_id, question)
    store.add_exchange(conversation.id, question, Message(role="assistant", content=answer), [])
    return conversation.id


@pytest.fixture
def documents(app: App, store: Store) -> tuple[str, str]:
    return add(store, "harbour", HARBOUR), add(store, "orchard", ORCHARD)


def pages(found: Found) -> list[tuple[str, list[int]]]:
    return [(each.title, sorted(page.page for page in each.pages)) for each in found.documents]


def marked(excerpt: Excerpt) -> list[str]:
    return [excerpt.text[start:end] for start, end in excerpt.spans]


def test_pages_hold_all_the_words(app: App, documents: tuple[str, str]) -> None:
    assert sorted(pages(app.search.find("keeper"))) == [("harbour", [1]), ("orchard", [1])]
    assert pages(app.search.find("keeper log")) == [("harbour", [1])]
    assert pages(app.search.find("dredging harbour")) == [("harbour", [1, 3])]
    assert app.search.find("keeper zebra") == Found()


@pytest.mark.parametrize("words", ["", "  ", "?!", '"', "' OR 1", "NEAR(", "keeper* AND", "\0", "-", "a" * 5000])
def test_whatever_is_typed_is_plain_words(app: App, documents: tuple[str, str], words: str) -> None:
    assert app.search.find(words).documents == ()


def test_a_word_is_found_while_it_is_typed(app: App, documents: tuple[str, str]) -> None:
    found = app.search.find("log dred")
    assert pages(found) == [("harbour", [1, 3])]
    assert [marked(page.excerpt) for page in found.documents[0].pages if page.page == 1] == [["dredged", "log"]]


def test_a_script_without_spaces_is_searched(app: App, store: Store) -> None:
    add(store, "文", ("東京の港は大きい。",))
    assert pages(app.search.find("港は")) == [("文", [1])]
    assert app.search.find("京都") == Found()


def test_all_that_is_not_shown_is_counted(app: App, store: Store) -> None:
    add(store, "long", ["The bell rang." for _ in range(40)])
    (found,) = app.search.find("bell").documents
    assert (len(found.pages), found.count) == (30, 40)
    for name in "abcdefghijkm":
        add(store, name, ["The bell rang." for _ in range(4)])
    first, *others = app.search.find("bell").documents
    assert (first.title, len(first.pages)) == ("long", 3)
    assert sorted({len(each.pages) for each in others}) == [0, 3] and {each.count for each in others} == {4}
    assert sum(len(each.pages) for each in (first, *others)) == 30


def test_the_words_are_marked_on_their_page(app: App, documents: tuple[str, str]) -> None:
    cited = app.search.cited(documents[0], 1, "harbour log")
    assert cited is not None and len(cited.boxes) == 2
    assert all(0 <= edge <= 1 for box in cited.boxes for edge in box)
    assert app.search.cited(documents[0], 99, "harbour") is None


def test_conversations_are_found_by_what_was_said(app: App, store: Store, documents: tuple[str, str]) -> None:
    asked = say(store, documents[0], "Who kept the log?", "Ole Brandt did.")
    say(store, documents[1], "What grows there?", "Pears.", owner="visitor")
    (hit,) = app.search.find("brandt log").turns
    assert (hit.conversation_id, hit.message_id) == (asked, store.messages(asked)[-1].id)
    assert "Who kept the log?" in hit.excerpt.text
    assert app.search.find("pears").turns == ()
    (theirs,) = Search(store.seen_by(Viewer("visitor"))).find("pears").turns
    assert theirs.title == "orchard"
    # What was answered before, and is shown no longer, is not found.
    store.replace_answer(store.messages(asked)[0].id, Message(role="assistant", content="The keeper."), [])
    assert app.search.find("brandt log").turns == ()


def test_only_what_may_be_seen_is_searched(app: App, store: Store, documents: tuple[str, str]) -> None:
    say(store, documents[0], "Who is the keeper?", "Ole.", owner="ann")
    ann = Viewer("ann", has_all=False, only=frozenset({documents[1]}))
    found = Search(store.seen_by(ann)).find("keeper")
    assert pages(found) == [("orchard", [1])] and found.turns == ()


def test_what_is_deleted_is_found_no_longer(app: App, store: Store, documents: tuple[str, str]) -> None:
    say(store, documents[0], "Where is the harbour?", "At Sund.")
    store.delete_document(documents[0])
    assert app.search.find("harbour") == Found()
