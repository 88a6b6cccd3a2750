"""Encryption, as a user has it: the same library and the same answers, with nothing of them in any byte of the home."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend

from app.main import App
from app.settings import Settings
from storage import digest_of
from tests.app import paper
from tests.app.test_cli import QUESTION, Cli, cli

__all__ = ["cli"]
pytestmark = pytest.mark.usefixtures("in_this_process")
TOLD = (b"access code", b"The access", b"a.txt", QUESTION.encode(), QUESTION.encode("utf-16-le"))
"""Of the document, its name, and what is asked about it."""


class Ring(KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


def told(home: Path, words: tuple[bytes, ...] = TOLD) -> list[tuple[str, bytes]]:
    """Where something of the documents stands in plain in a home, its models left out."""
    files = [path for path in home.rglob("*") if path.is_file() and "models" not in path.parts]
    return [(path.name, word) for path in files for word in words if word in path.read_bytes()]


def facts(app: App, document_id: str) -> dict[str, Any]:
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    kept = ("answer", "found", "citations", "unsupported", "reused_tokens", "recomputed_tokens")
    pods = sorted(digest_of(path) for path in (app.settings.home / "pods").iterdir())
    pages = [app.library.page_image(document_id, 1), app.search.find("access code").documents]
    return {name: getattr(answer, name) for name in kept} | {"pods": pods, "pages": pages}


def test_an_encrypted_library_answers_the_same_and_tells_nothing_without_its_key(
    cli: Cli, settings: Settings, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = settings.home
    app = App(settings)
    document_id = paper.read_here(app, source)
    before = facts(app, document_id)
    app.close()
    assert {word for _, word in told(home)} >= {b"a.txt", QUESTION.encode()}
    monkeypatch.setenv("DOCPOD_PASSPHRASE", "a long one")
    assert cli("encrypt", "--json").json["files"] > 3
    assert told(home) == []

    app = App(settings)
    assert not app.uploads.is_relative_to(home)
    assert facts(app, document_id) == before
    assert app.verify()[1] == [] and app.damaged_rows() == []
    assert list(app.library.intake.damaged(all_anew=True)) == []
    # A second document comes in, is asked, leaves as an archive and comes back.
    other = paper.text(tmp_path / "b.txt", 3)
    app.library.export(document_id, tmp_path / "out.docpod")
    other_id = paper.read_here(app, other)
    facts(app, other_id)
    with app.library.original(other_id) as path:
        assert path.read_bytes() == other.read_bytes()
    app.library.delete(document_id)
    assert app.library.add(tmp_path / "out.docpod", "out.docpod", move=False) == document_id
    assert told(home) == []
    for _ in app.library.wait(document_id):
        pass
    assert facts(app, document_id)["answer"] == before["answer"]
    assert told(home, (*TOLD, b"b.txt")) == []
    scratch = app.uploads
    app.close()
    assert not scratch.exists()
    assert told(home, (*TOLD, b"b.txt")) == []

    assert cli("decrypt", "--json").json["files"] > 3
    monkeypatch.delenv("DOCPOD_PASSPHRASE")
    app = App(settings)
    assert facts(app, document_id)["answer"] == before["answer"]
    app.close()
    assert {word for _, word in told(home)} >= {b"a.txt", QUESTION.encode()}


def test_without_the_key_there_is_a_sentence_and_a_doctor(
    cli: Cli, settings: Settings, read_document: str, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli("encrypt", "--keyring").err.split("machine: ")[1].split()[0]
    assert list(ring.kept.values()) == [made]
    assert cli("ls", "--json").json[0]["document_id"] == read_document
    assert "keyring" in cli("doctor").out
    kept, ring.kept = ring.kept, {}
    refused = cli("ls")
    assert refused.code == 2
    assert "keyring of this machine does not have its passphrase" in refused.err
    assert "DOCPOD_PASSPHRASE" in refused.err
    doctor = cli("doctor", "--json")
    assert doctor.code == 0
    assert doctor.json["encryption"] == "encrypted, by a keyring"
    assert doctor.json["database"] == "as it was closed"
    assert doctor.json["plain_files"] == []
    monkeypatch.setenv("DOCPOD_PASSPHRASE", "not this one")
    assert "does not open the library" in cli("ls").err
    monkeypatch.setenv("DOCPOD_PASSPHRASE", made)
    assert cli("ls").code == 0
    monkeypatch.setenv("DOCPOD_NEW_PASSPHRASE", "of my own")
    assert cli("encrypt").code == 0
    assert "does not open the library" in cli("ls").err
    monkeypatch.setenv("DOCPOD_PASSPHRASE", "of my own")
    assert cli("rescue").code == 0
    assert kept


def test_a_damaged_database_gives_way_to_its_encrypted_backup(
    cli: Cli, settings: Settings, read_document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCPOD_PASSPHRASE", "a long one")
    assert cli("encrypt").code == 0
    database = settings.home / "docpod.sqlite3"
    whole = database.read_bytes()
    database.write_bytes(whole[:5000] + bytes(2000) + whole[7000:])
    said = cli("ls")
    assert "goes on from its backup" in said.err
    assert read_document[:8] in said.out
    assert told(settings.home) == []
