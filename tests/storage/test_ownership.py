"""Ownership: every verb of the store, tried by everybody on what is another's, by ids that were guessed right."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import EVERYBODY, ApiKey, Document, Home, NotStored, Person, SignIn, Store, Viewer, forget
from storage.migrations import MIGRATIONS, migrate
from storage.models import Base
from tests.storage.rows import A, B, answer, block, citation, document, filled, page, section

ANN, BEN, CAT = Person(name="ann"), Person(name="ben"), Person(name="cat", role="visitor")
SECRET = "zanzibar"
NOW = datetime.now(UTC)
OF_THE_HOME = {
    *("over", "about", "lock", "any_document"),
    *("close", "copy_to", "count_backup", "damaged_rows", "known_files", "mend_indexes", "open", "register", "seen_by"),
    # Of whole homes, for the background: nobody has them by his gate.
    *("delete_hidden_conversations", "delete_conversations_of_visitors", "keeps_file", "viewer"),
    *("add_person", "people", "remove_person", "set_password", "sign_in", "sign_out", "signed_in"),
}
"""What the gate of no role lets through (`app.roles`), and what knows of no document."""


@dataclass
class Anns:
    """What Ann has: a document with pages, a reading with blocks, notes, vectors, a conversation, and a key."""

    document_id: str
    reading_id: int
    section_id: int
    conversation_id: str
    messages: list[int]
    key: ApiKey


@pytest.fixture
def anns(store: Store) -> Anns:
    for each in (ANN, BEN, CAT):
        store.add_person(replace(each))
    ann = seen(store, ANN)
    document_id = ann.viewer.own_id(A)
    reading, sections, conversation = filled(ann, document_id, SECRET)
    ann.keep_notes(document_id, "part", [(SECRET, 1, 0, 8)])
    ann.add_vectors(document_id, "encoder", [(1, b"12", SECRET.encode())])
    ann.tag_document(document_id, ["plans", f"about-{SECRET}"])
    ann.add_key(key := ApiKey(id="docpod-ann", name=SECRET, digest="d", scopes=["read"]))
    ann.prefer("sort", SECRET)
    messages = [each.id for each in ann.messages(conversation)]
    return Anns(document_id, reading, sections[0], conversation, messages, key)


def seen(store: Store, person: Person) -> Store:
    return store.seen_by(Viewer(person.id, has_all=person.role == "owner"))


OTHERS: dict[str, Callable[[], Viewer]] = {
    "another member": lambda: Viewer(BEN.id, has_all=False),
    "a visitor with an account": lambda: Viewer(CAT.id, has_all=False),
    "a visitor by a link to something else": lambda: Viewer("link", has_all=False, only=frozenset({B})),
    "nobody": lambda: Viewer("", has_all=False, only=frozenset()),
}


def given(anns: Anns, name: str, verb: str) -> Any:
    """What a verb is told: Ann's ids, and anything else."""
    known: dict[str, Any] = {
        "message_id": anns.messages[1],
        "question_message_id": anns.messages[0],
        "message_ids": anns.messages,
        "document_ids": [anns.document_id],
        "document": replace(document(anns.document_id), title="stolen"),
        "prefix_or_title": anns.document_id[:8],
        "key": ApiKey(id="new", name="n", digest="e", scopes=[]),
        "key_id": anns.key.id,
        "digest": anns.key.digest,
        "pages": [page(1, "stolen")] if verb != "pages" else None,
        "page": page(1, "stolen"),
        "number": 1,
        "numbers": [1],
        "num_pages": 1,
        "block": block(0, "stolen"),
        "behind": None,
        "blocks": [],
        "sections": [section(0)],
        "answer": answer("stolen"),
        "citations": [citation(1)],
        "rows": [(2, b"", b"")],
        "terms": [SECRET],
        "words": SECRET,
        "limit": 9,
        "seconds": 1.0,
        "state": "paused",
        "names": ["sort"],
        "outline": [],
        "tags": ["mine"],
        "people": [EVERYBODY],
        "tag": "plans",
        "points": [("stolen", 1, 0, 1)],
        "encoder": "encoder",
        "model_name": "model",
        "reader": "reader",
    }
    return known.get(name, getattr(anns, name, "stolen"))


def rows(store: Store) -> dict[str, list[Any]]:
    with store._database.engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        return {each.name: sorted(map(repr, connection.execute(each.select()))) for each in tables}


def verbs() -> Iterator[str]:
    for name, found in inspect.getmembers(Store):
        if not name.startswith("_") and callable(found) and name not in OF_THE_HOME:
            yield name


@pytest.mark.parametrize("who", OTHERS)
def test_every_verb_on_what_is_anothers_does_and_tells_nothing(store: Store, anns: Anns, who: str) -> None:
    other = store.seen_by(OTHERS[who]())
    before = rows(store)
    for verb in verbs():
        call = getattr(other, verb)
        parameters = inspect.signature(call).parameters.values()
        told = [given(anns, each.name, verb) for each in parameters if each.default is each.empty]
        if verb in ("add_block",):
            told.pop()
        try:
            got = call(*told)
        except NotStored:
            got = None
        said = f"{got!r} {getattr(got, '__dict__', '')}"
        assert SECRET not in said and "Annual report" not in said, (verb, said)
    after = rows(store)
    for table, kept in before.items():
        new = [each for each in after[table] if each in kept] if table in MADE else after[table]
        # Whatever is forgotten is noted, by a number.
        assert new == kept or table == "preferences", table


MADE = ("documents", "api_keys", "shares")
"""Tables that have something of one's own then."""


def test_its_owner_has_all_of_it(store: Store, anns: Anns) -> None:
    """The verbs above find nothing because it is Ann's, and not because it is not there."""
    ann = seen(store, ANN)
    assert ann.search_pages(anns.document_id, [SECRET], 9)
    assert ann.pages_with([anns.document_id], SECRET, 9)[anns.document_id] == [1, 2]
    assert [each.document.id for each in ann.shelf()] == [each.id for each in ann.documents()] == [anns.document_id]
    assert len(ann.pages(anns.document_id)) == 2 and ann.page_texts(anns.document_id, [1])
    assert ann.blocks(anns.section_id) and ann.sections(anns.reading_id) and ann.readings()
    assert ann.notes(anns.document_id) and ann.vectors(anns.document_id, "encoder")
    assert [each.id for each in ann.conversations()] == [anns.conversation_id]
    assert len(ann.messages(anns.conversation_id)) == 2 and ann.citations(anns.messages)[anns.messages[1]]
    assert ann.all_keys() == [ann.key_of("d")] and ann.preference("sort") == SECRET
    assert ann.all_messages() and ann.conversations_of_viewer() == [anns.conversation_id]


def test_a_shared_collection_is_seen_and_asked_and_changed_by_its_owner_alone(store: Store, anns: Anns) -> None:
    ann, ben, cat = (seen(store, each) for each in (ANN, BEN, CAT))
    ann.share("plans", [BEN.id])
    (got,) = ben.documents()
    assert (got.id, got.tags) == (anns.document_id, ["plans"])
    assert ben.search_pages(anns.document_id, [SECRET], 9) and ben.shelf(anns.document_id)
    assert cat.documents() == [] and cat.document(anns.document_id) is None
    assert ben.document(anns.document_id, own=True) is None
    for change in (
        lambda: ben.tag_document(anns.document_id, ["mine"]),
        lambda: ben.rename_document(anns.document_id, "mine"),
        lambda: ben.doom_document(anns.document_id),
        lambda: ben.set_reading_state(anns.reading_id, "paused"),
    ):
        with pytest.raises(NotStored):
            change()
    ben.delete_document(anns.document_id)
    assert ann.search_pages(anns.document_id, [SECRET], 9)
    assert ben.conversations() == [] and ben.conversation(anns.conversation_id) is None
    asked = ben.start_conversation(anns.document_id, "What is planned?")
    assert (asked.owner, [each.id for each in ann.conversations()]) == (BEN.id, [anns.conversation_id])
    # What is shared no longer takes what was asked about it out of sight, and brings it back with it.
    ann.share("plans", [])
    assert ben.documents() == ben.conversations() == [] and ben.messages(asked.id) == []
    ann.share("plans", [EVERYBODY])
    assert [each.id for each in ben.conversations()] == [asked.id] and len(cat.documents()) == 1
    ann.tag_document(anns.document_id, [])
    assert ben.documents() == cat.documents() == []


def test_a_conversation_about_several_is_seen_as_long_as_each_is(store: Store, anns: Anns) -> None:
    ann, ben = seen(store, ANN), seen(store, BEN)
    ann.share("plans", [EVERYBODY])
    own = ben.add_document(replace(document(ben.viewer.own_id(B)), title="Mine")).id
    several = ben.start_conversation(own, "Both", beside=[anns.document_id])
    assert [each.id for each in ben.conversations()] == [several.id]
    ann.share("plans", [])
    assert ben.conversations() == [] and ben.conversation(several.id) is None


def test_an_id_that_is_anothers_conversation_begins_none(store: Store, anns: Anns) -> None:
    ben = seen(store, BEN)
    own = ben.add_document(document(ben.viewer.own_id(B))).id
    with pytest.raises(NotStored):
        ben.start_conversation(own, "Mine", anns.conversation_id)


def test_an_owner_has_everything_and_lists_his_own_conversations(store: Store, anns: Anns) -> None:
    dot = store.seen_by(Viewer("dot"))
    assert [each.id for each in dot.documents()] == [anns.document_id] and dot.conversations() == []
    dot.rename_document(anns.document_id, "By its owner")
    assert store.document(anns.document_id).title == "By its owner"


def test_whoever_is_removed_leaves_what_he_has_to_another(store: Store, anns: Anns) -> None:
    ann, ben = seen(store, ANN), seen(store, BEN)
    ann.share("plans", [EVERYBODY])
    ann.sign_in(SignIn(digest="cookie", person_id=ANN.id, ends_at=datetime.max.replace(tzinfo=UTC)), NOW)
    assert store.signed_in("cookie", NOW).id == ANN.id
    store.remove_person(ANN.id, BEN.id)
    assert [each.id for each in ben.documents()] == [anns.document_id]
    assert [each.id for each in ben.conversations()] == [anns.conversation_id]
    assert store.all_keys() == store.shares() == [] and store.signed_in("cookie", NOW) is None
    assert seen(store, CAT).documents() == [] and ann.documents() == []
    store.remove_person(BEN.id, "")
    assert store.documents()[0].owner == "" and store.conversations()[0].owner == ""
    assert "Annual report" in store.documents()[0].title and store.blocks(anns.section_id)


def test_bytes_of_two_people_are_kept_once_and_until_the_last_of_them(home: Home, kept: Store) -> None:
    path = home.documents / A
    path.write_bytes(b"both have it")
    for each in (ANN, BEN):
        kept.add_person(replace(each))
        own = seen(kept, each)
        own.add_document(replace(document(own.viewer.own_id(A)), kept=A))
    assert len({each.id for each in kept.documents()}) == 2 and kept.known_files() == {f"documents/{A}"}
    for left, each in ((True, ANN), (False, BEN)):
        forget(home, kept, seen(kept, each).viewer.own_id(A))
        assert path.exists() is left


def test_a_statement_that_says_nothing_of_rows_is_refused_to_others(store: Store) -> None:
    with pytest.raises(AssertionError, match="whose the rows are"), seen(store, BEN)._read() as session:
        session.execute(text("SELECT title FROM documents"))


def test_a_home_from_before_people_is_its_users_and_its_unlocked_files_have_new_names(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    store = Store.open(home.database_url)
    store.add_document(document(A))
    store.add_document(document(B))
    store.keep_otherwise(B, "c" * 64)
    for name in (A, B):
        (home.documents / name).write_bytes(name.encode())
    with store._database.writing.begin() as connection:
        for later in ("TABLE shares", "TABLE sign_ins", "TABLE people", "INDEX documents_by_owner"):
            connection.exec_driver_sql(f"DROP {later}")
        for table in ("documents", "api_keys"):
            for name in ("inserted", "updated"):
                connection.exec_driver_sql(f"DROP TRIGGER {table}_{name}")
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN owner")
        connection.exec_driver_sql("DELETE FROM schema_version WHERE version > 16")
    migrate(store._database, MIGRATIONS)
    assert {each.id: each.owner for each in store.documents()} == {A: "", B: ""}
    assert sorted(path.name for path in home.documents.iterdir()) == [A, "c" * 64]
    assert all((home.documents / each.digest).exists() for each in store.documents()) and not store.damaged_rows()
    assert isinstance(store.add_document(Document(**vars_of(document("d" * 64)))), Document)
    store.close()
    home.close()


def vars_of(row: Document) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("id", "title", "file_name", "media_type", "num_bytes")}
