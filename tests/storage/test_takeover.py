"""A library that outgrows its folder: all of it comes into a server's database and a store, or none of its rows."""

from contextlib import closing
from pathlib import Path

import pytest

from storage import (
    BlobStore,
    Home,
    PlaceRefused,
    StorageError,
    Store,
    note,
    open_library,
    read_block,
    take_over,
    write_block,
)
from storage import takeover as module
from tests.servers import PostgresServer, S3Server
from tests.storage.rows import answer, block, citation, document, page, section

TEXT = b"the bytes of a report"


def made(root: Path) -> tuple[str, str, str]:
    """A library in the folder of a home: a document with its files, and a conversation; ids, and the block's name."""
    with closing(Home(root)) as home, closing(open_library(home).store) as store:
        (root / "report").write_bytes(TEXT)
        digest, _ = BlobStore(home.bytes).put_file(root / "report")
        store.add_document(document(digest))
        store.save_pages(digest, "Annual report", [], [page(1, "zanzibar one\0"), page(2, "zanzibar two")])
        reading = store.start_reading(digest, "reader", "model", "exact", [section(0)])
        (kept,) = store.sections(reading.id)
        row = block(0, f"{kept.id}-0.pod")
        row.num_bytes, row.checksum = write_block(home.pods, row.file_name, {}, b"pod")
        store.add_block(kept.id, row)
        conversation = store.start_conversation(digest, "About zanzibar")
        for _ in range(2):
            store.add_exchange(conversation.id, "Where?", answer("There."), [citation(1, "zanzibar")])
        store.prefer("theme", "dark")
        note(home, store)
        return digest, conversation.id, row.file_name


@pytest.mark.parametrize("where", ["s3", "share"])
def test_all_of_a_library_comes_and_goes_on_there(
    tmp_path: Path, postgres: PostgresServer, where: str, request: pytest.FixtureRequest
) -> None:
    digest, conversation, name = made(tmp_path / "home")
    url, s3 = postgres.url(), request.getfixturevalue("s3") if where == "s3" else None
    store_url = s3.url() if isinstance(s3, S3Server) else str(tmp_path / "share")
    with closing(Home(tmp_path / "home", database=url, store=store_url)) as home:
        copied = take_over(home)
        assert (copied["files"], copied["documents"], copied["pages"], copied["messages"]) == (2, 1, 2, 4)
        with pytest.raises(PlaceRefused):
            take_over(home)
    with closing(Store.open(f"sqlite:///{tmp_path}/home/docpod.sqlite3")) as before:
        was = before.messages(conversation), before.citations([each.id for each in before.messages(conversation)])
    # Another machine has neither the folder nor its database.
    with (
        closing(Home(tmp_path / "another", database=url, store=store_url)) as home,
        closing(open_library(home).store) as store,
    ):
        messages = store.messages(conversation)
        assert (messages, store.citations([each.id for each in messages])) == was
        assert store.preference("theme") == "dark"
        assert [number for number, _ in store.search_pages(digest, ["zanzibar"], 5)] == [1, 2]
        with BlobStore(home.bytes).plain(digest, digest) as path:
            assert path.read_bytes() == TEXT
        (reading,) = store.readings(digest)
        (kept,) = store.sections(reading.id)
        read_block(home.pods / name, store.blocks(kept.id)[0].checksum)
        store.add_exchange(conversation, "And now?", answer("Here."), [])
        assert max(each.id for each in store.messages(conversation)) > max(each.id for each in messages)


def test_rows_that_read_otherwise_leave_nothing_behind(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "home")
    rows, changed = module._rows, list[object]()

    def wrong(connection, table):  # type: ignore[no-untyped-def]
        for part in rows(connection, table):
            if table.name == "citations" and connection.dialect.name == "postgresql" and not changed:
                part[0]["page"] += 1
                changed.append(table)
            yield part

    monkeypatch.setattr(module, "_rows", wrong)
    with closing(Home(tmp_path / "home", database=postgres.url())) as home:
        with pytest.raises(PlaceRefused, match="a library of its own"):
            # Whose files are unknown in that database.
            open_library(home)
        with pytest.raises(StorageError, match="citations was copied, but reads otherwise"):
            take_over(home)
        assert take_over(home)["citations"] == 2
