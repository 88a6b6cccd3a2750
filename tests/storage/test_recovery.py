"""The log of a database: whichever bit of it flips after a kill no document is lost, and it keeps nothing deleted."""

import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from storage import BlobStore, Home, Keeper, open_library
from storage.sqlite import Sqlite, opened_database
from tests.app.paper import wait_until
from tests.storage.rows import document

STRIDE = int(os.environ.get("DOCPOD_STRIDE", 997))
"""Every so many bits; 1 of them all takes half an hour."""


def test_a_bit_that_flips_in_a_log_that_was_not_folded_in_loses_no_document(tmp_path: Path) -> None:
    with closing(Home(tmp_path / "made")) as home:
        store = open_library(home).store
        store.close()
        with closing(sqlite3.connect(home.database, isolation_level=None)) as database:
            # Pages as small as they can be, so that the log is.
            for statement in ("journal_mode = DELETE", "page_size = 512"):
                database.execute(f"PRAGMA {statement}")
            database.execute("VACUUM")
        store = open_library(home).store
        ids = set()
        for word in ("one", "two"):
            source = tmp_path / word
            source.write_text(word)
            document_id, _ = BlobStore(home.bytes).put_file(source)
            ids.add(document_id)
            # The log holds the second one alone.
            with closing(sqlite3.connect(home.database)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            store.add_document(document(document_id, word))
        # As a process leaves it that is killed.
        killed = tmp_path / "killed"
        shutil.copytree(home.root, killed)
        store.close()
    log = killed / "docpod.sqlite3-wal"
    bits = 8 * log.stat().st_size
    root = tmp_path / "flipped"
    for bit in range(STRIDE // 2, bits, STRIDE):
        shutil.copytree(killed, root)
        data = bytearray(log.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (root / log.name).write_bytes(data)
        with closing(Home(root)) as home:
            opened = open_library(home)
            with closing(opened.store):
                known = {each.id for each in opened.store.documents()}
                assert known | opened.unknown.keys() == ids, bit
                assert {path.name for path in (root / "documents").iterdir()} == ids, bit
        shutil.rmtree(root)


def test_what_was_deleted_while_it_was_read_leaves_the_log_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.keeper._LOOK_SECONDS", 0.01)
    monkeypatch.setattr("storage.keeper.opened_database", partial(opened_database, timeout=0.0))
    with closing(Home(tmp_path)) as home, closing(open_library(home).store) as store:
        keeper = Keeper(home, store, True)
        with closing(keeper), closing(sqlite3.connect(home.database, isolation_level=None)) as reader:
            store.add_document(document("a", "theodolite"))
            for statement in ("BEGIN", "SELECT count(*) FROM documents"):
                reader.execute(statement)
            monkeypatch.setattr(Sqlite, "empty_log", lambda _: None)
            store.delete_document("a")
            keeper.start()
            # A backup without it is there, and the log still has it.
            wait_until(lambda: list(home.backups.glob("*.sqlite3")), "a backup")
            log = home.database.with_name("docpod.sqlite3-wal")
            assert b"theodolite" in log.read_bytes()
            reader.execute("COMMIT")
            wait_until(lambda: not log.stat().st_size, "an empty log")
