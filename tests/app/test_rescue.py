"""The command `rescue`, and what a person is told on the way."""

import os
import shutil

from app.settings import Settings
from tests.app import paper
from tests.app.test_cli import QUESTION, Cli, cli, document_id, source

__all__ = ["cli", "document_id", "source"]


def test_rescue_goes_on_from_a_backup_and_from_originals(cli: Cli, document_id: str, settings: Settings) -> None:
    database = settings.home / "docpod.sqlite3"
    database.write_bytes(b"")
    told = cli("ls", "--json")
    assert [each["document_id"] for each in told.json] == [document_id]
    assert "The database of the library was gone; DocPod goes on from its backup of 20" in told.err

    # A change that SQLite cannot tell from what was written, and that leaves size and time as they were.
    stat = database.stat()
    database.write_bytes(database.read_bytes().replace(b"The access code", b"The excess code"))
    os.utime(database, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    saved = cli("rescue", "--json")
    assert "was damaged; DocPod goes on from its backup" in saved.err
    assert b"The excess code" not in database.read_bytes()
    assert saved.json["entered"] == []
    assert [name.rpartition("/")[2] for name in saved.json["set_aside"]] == ["docpod.sqlite3"]

    shutil.rmtree(settings.home / "backups")
    database.unlink()
    saved = cli("rescue")
    assert "1 documents, 1 of them entered anew" in saved.out
    assert cli("show", document_id, "--json").json["pages"] == 4
    assert cli("rescue", "--empty", "--json").json["set_aside"]
    assert cli("rescue", "--json").json["set_aside"] == []
    assert not (settings.home / "quarantine").exists()
    assert cli("read", paper.text(settings.home.parent / "a.txt"), "--json").json["already_read"] is False
    assert cli("ask", document_id, QUESTION, "--json").json["citations"]
