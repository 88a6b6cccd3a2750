"""Read documents as archives: opened elsewhere without being read, and refused whole where they are not as they say."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest

from app import ingest
from app.errors import AppError, BadName, DamagedDocument, DiskFull, NotRead, UnsupportedFile
from app.main import App
from engine.runtime.prefill.builder import PodBuilder
from storage import Home
from tests.app import paper
from tests.app.conftest import OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"
Members = dict[str, bytes]


@pytest.fixture
def archive(app: App, read_document: str, tmp_path: Path) -> Path:
    """Of a document that was read and asked in one home."""
    document_id = read_document
    app.library.rename(document_id, "The east wing")
    app.library.catalogue.tag(document_id, "rooms")
    asked = paper.last(app.questions.ask(document_id, QUESTION))
    paper.last(app.questions.ask(document_id, "And of room 5?", asked.conversation_id))
    app.library.export(document_id, tmp_path / "wing.docpod")
    return tmp_path / "wing.docpod"


@pytest.fixture
def elsewhere(open_app: OpenApp, settings, prepared_models: Path, tmp_path: Path) -> App:
    """An app on an empty home."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "models").symlink_to(prepared_models)
    app = open_app(home=home)
    # Loading a model reads something, too.
    app.model.wait()
    return app


def imported(app: App, path: Path) -> str:
    document_id = app.library.add(path, path.name, move=False)
    for _ in app.library.wait(document_id):
        pass
    assert app.library.catalogue.entry(document_id).progress.stage == "ready"
    assert list(Home(app.settings.home).imports.iterdir()) == []
    return document_id


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that are read from now on."""
    read: list[int] = []
    begin = PodBuilder.begin
    monkeypatch.setattr(PodBuilder, "begin", lambda builder, ids: read.append(len(ids)) or begin(builder, ids))
    return read


@pytest.mark.parametrize("recipe", ["exact", "keep60+k8v4h"])
def test_it_is_opened_elsewhere_without_being_read(
    app: App, elsewhere: App, archive: Path, chunks: list[int], recipe: str
) -> None:
    (document,) = app.library.catalogue.entries()
    if recipe != "exact":
        app.library.choose(document.document_id, recipe)
        list(app.library.wait(document.document_id))
        app.library.export(document.document_id, archive)
    chunks.clear()
    document_id = imported(elsewhere, archive)
    assert document_id == document.document_id and chunks == [] and archive.exists()
    entry = elsewhere.library.catalogue.entry(document_id)
    assert (entry.title, entry.file_name, entry.recipe) == ("The east wing", "a.txt", recipe)
    assert entry.tags == ("rooms",)
    (here,), (there,) = (each.questions.conversations(document_id) for each in (elsewhere, app))
    assert here.title == there.title
    turns, before = (each.chat.turns(one.conversation_id) for each, one in ((elsewhere, here), (app, there)))
    own = {"conversation_id": "", "message_id": 0}
    assert [replace(turn, answer=replace(turn.answer, **own)) for turn in turns] == [
        replace(turn, answer=replace(turn.answer, **own)) for turn in before
    ]
    asked = [paper.last(each.questions.ask(document_id, "What is the code of room 7?")) for each in (app, elsewhere)]
    assert asked[0].answer == asked[1].answer and asked[0].citations == asked[1].citations
    assert asked[1].reused_tokens == asked[0].reused_tokens > 0
    # Once more: what is known stays as it is.
    elsewhere.library.rename(document_id, "Mine")
    assert imported(elsewhere, archive) == document_id and chunks == []
    assert elsewhere.library.catalogue.entry(document_id).title == "Mine"
    assert len(elsewhere.questions.conversations(document_id)) == 2


def test_one_that_is_not_read_leaves_no_folder(app: App, source: Path) -> None:
    document_id = app.library.add(source, source.name, move=False)
    with pytest.raises(NotRead):
        app.library.archive(document_id)
    assert list((app.settings.home / "uploads").iterdir()) == []


def rewritten(archive: Path, change: Callable[[Members, dict], object]) -> Path:
    """The archive with other members, whose sizes and digests are right again unless the list was changed too."""
    with ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    listed = json.loads(members.pop("docpod.json"))
    change(members, listed)
    for part in listed["parts"]:
        if part.pop("wrong", None) is None and part["name"] in members:
            content = members[part["name"]]
            part |= {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path = archive.with_name("rewritten.docpod")
    with ZipFile(path, "w", ZIP_STORED) as new:
        new.writestr("docpod.json", json.dumps(listed))
        for name, content in members.items():
            new.writestr(name, content)
    return path


def other_section(members: Members, listed: dict) -> None:
    for block in listed["blocks"]:
        block["section"] = "0" * 64


def other_bytes(members: Members, listed: dict) -> None:
    members["pods/0"] = members["pods/0"][:-100] + b"\1" * 100


def other_tokens(members: Members, listed: dict) -> None:
    listed["blocks"][-1]["stop_token"] -= 1


def other_place(members: Members, listed: dict) -> None:
    listed["blocks"][0] |= {key: listed["blocks"][1][key] for key in ("start_token", "stop_token")}


@pytest.mark.parametrize("change", [other_section, other_bytes, other_tokens, other_place])
def test_memory_that_would_not_be_made_here_is_read_anew(
    elsewhere: App, archive: Path, chunks: list[int], change: Callable[[Members, dict], object]
) -> None:
    chunks.clear()
    document_id = imported(elsewhere, rewritten(archive, change))
    assert chunks
    answer = paper.last(elsewhere.questions.ask(document_id, QUESTION))
    assert answer.found and answer.citations[0].page == 3
    assert elsewhere.verify()[1] == []
    pods = {path.name for path in Home(elsewhere.settings.home).pods.iterdir()}
    store = elsewhere._store
    assert pods == store.all_block_files()


def test_in_the_background_only_what_must_be_read_waits_for_its_user(
    elsewhere: App, archive: Path, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "ASK_FIRST_SECONDS", 0.0)
    other = rewritten(archive, other_section)
    chunks.clear()
    elsewhere.start()
    document_id = elsewhere.library.add(archive, archive.name)
    paper.wait_for(elsewhere, document_id, "ready")
    assert not archive.exists() and chunks == []
    elsewhere.library.delete(document_id)
    assert elsewhere.library.add(other, other.name) == document_id
    assert paper.wait_for(elsewhere, document_id, "waiting", "ready").progress.stage == "waiting"
    assert chunks == []


def talk(**turn: object) -> Callable[[Members, dict], object]:
    def change(members: Members, listed: dict) -> None:
        talks = json.loads(members["conversations.json"])
        talks[0]["turns"][0] |= turn
        members["conversations.json"] = json.dumps(talks).encode()

    return change


HOSTILE: dict[str, tuple[Callable[[Members, dict], object], type[AppError]]] = {
    "a further member": (lambda members, _: members.update({"run.sh": b"rm"}), DamagedDocument),
    "a way out": (
        lambda members, listed: (
            members.update({"../../evil": members.pop("pods/0")}),
            listed["parts"][2].update(name="../../evil"),
        ),
        DamagedDocument,
    ),
    "a missing member": (lambda members, _: members.pop("pods/1"), DamagedDocument),
    "a wrong sum": (lambda _, listed: listed["parts"][0].update(sha256="0" * 64, wrong=1), DamagedDocument),
    "a wrong size": (lambda _, listed: listed["parts"][2].update(num_bytes=5, wrong=1), DamagedDocument),
    "a later version": (lambda _, listed: listed.update(format=2), UnsupportedFile),
    "a foreign list": (lambda _, listed: listed.update(more="x"), DamagedDocument),
    "no numbers": (lambda _, listed: listed["blocks"][0].update(start_token="x"), DamagedDocument),
    "an unknown recipe": (lambda _, listed: listed.update(recipe="keep900"), DamagedDocument),
    "no title": (lambda _, listed: listed.update(title=" \u0007"), BadName),
    "no JSON": (lambda members, _: members.update({"conversations.json": b"[["}), DamagedDocument),
    "deep JSON": (lambda members, _: members.update({"conversations.json": b"[" * 100_000}), DamagedDocument),
    "an open question": (talk(state="waiting"), DamagedDocument),
    "a figure that is none": (talk(answer={"seconds": float("inf")}), DamagedDocument),
    "no answer": (talk(answer="yes"), DamagedDocument),
    "no document": (lambda members, _: members.update(original=b"\x7fELF and more"), UnsupportedFile),
    "an archive in it": (lambda members, _: members.update(original=b"PK\x03\x04" + b"\0" * 60), UnsupportedFile),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_that_is_not_as_it_should_be_is_refused_whole(elsewhere: App, archive: Path, name: str) -> None:
    change, error = HOSTILE[name]
    refused(elsewhere, rewritten(archive, change), error)


def refused(app: App, path: Path, error: type[AppError]) -> None:
    home = Home(app.settings.home)
    with pytest.raises(error) as raised:
        app.library.add(path, path.name)
    assert raised.value.message.endswith(".") and len(raised.value.message) < 200
    assert path.exists() and app.library.catalogue.entries() == []
    for folder in (home.documents, home.pods, home.imports, home.root / "uploads"):
        assert list(folder.iterdir()) == []
    assert not list(path.parent.parent.glob("evil"))


def test_packed_parts_and_parts_that_are_one_are_refused(elsewhere: App, archive: Path) -> None:
    """Neither can become more than the archive itself: the parts of a bomb are packed, or lie over each other."""
    bomb = archive.with_name("bomb.docpod")
    with ZipFile(archive) as old, ZipFile(bomb, "w", ZIP_DEFLATED) as new:
        for number, name in enumerate(old.namelist()):
            new.writestr(name, old.read(name), ZIP_STORED if not number else ZIP_DEFLATED)
    refused(elsewhere, bomb, DamagedDocument)
    whole = archive.read_bytes()
    for end in (len(whole) // 2, len(whole) - 30, 60):
        bomb.write_bytes(whole[:end])
        refused(elsewhere, bomb, DamagedDocument)
    over = archive.with_name("over.docpod")
    with ZipFile(archive) as old, ZipFile(over, "w") as new:
        for name in old.namelist():
            new.writestr(ZipInfo(name), old.read(name))
        pods = [each for each in new.infolist() if each.filename.startswith("pods/")]
        for each in pods:
            each.header_offset = pods[0].header_offset
    refused(elsewhere, over, DamagedDocument)


def test_what_has_no_room_is_refused(elsewhere: App, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Home, "free_bytes", lambda _: 1000)
    refused(elsewhere, archive, DiskFull)


def test_what_is_not_read_is_not_exported(app: App, source: Path, tmp_path: Path) -> None:
    document_id = paper.planned(app, source).document_id
    with pytest.raises(NotRead):
        app.library.export(document_id, tmp_path / "wing.docpod")
    assert not (tmp_path / "wing.docpod").exists()


def test_memory_that_was_not_taken_over_goes_with_its_document(elsewhere: App, archive: Path) -> None:
    document_id = elsewhere.library.add(archive, archive.name, move=False)
    imports = Home(elsewhere.settings.home).imports
    assert [path.name for path in imports.iterdir()] == [document_id]
    elsewhere.library.delete(document_id)
    assert list(imports.iterdir()) == []
