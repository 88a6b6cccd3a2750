"""The verbs of the page on the command line: conversations, recipes, keys, pages, pausing."""

from pathlib import Path

import pytest
from pypdf import PdfReader

from app.main import App
from app.settings import Settings
from tests.app import paper
from tests.app.test_cli import QUESTION, Cli, cli, document_id, source

pytestmark = pytest.mark.usefixtures("in_this_process")

__all__ = ["cli", "document_id", "source"]


def test_a_conversation_goes_on_is_written_again_and_goes(cli: Cli, document_id: str) -> None:
    first = cli("ask", document_id, QUESTION, "--json").json["conversation_id"]
    assert cli("ask", document_id, "And of room 3?", "--conversation", first, "--json").json["conversation_id"] == first
    assert cli("regenerate", first, "--json").json["conversation_id"] == first
    (listed,) = cli("conversations", "list", document_id, "--json").json
    assert (listed["conversation_id"], listed["title"]) == (first, QUESTION)
    turns = cli("conversations", "show", first, "--json").json
    assert [turn["question"] for turn in turns] == [QUESTION, "And of room 3?"]
    assert turns[0]["citations"][0]["page"] == 2
    assert f"> {QUESTION}" in cli("conversations", "show", first).out
    assert cli("conversations", "delete", first, "--json").json["deleted"] is True
    assert cli("conversations", "list", document_id, "--json").json == []


def test_a_question_is_edited_and_a_conversation_duplicated(cli: Cli, document_id: str) -> None:
    first = cli("ask", document_id, QUESTION, "--json").json["conversation_id"]
    cli("ask", document_id, "What is the code of room 3?", "--conversation", first)
    ask = ("ask", document_id, "What is the code of room 1?", "--conversation", first)
    edited = cli(*ask, "--instead-of", "2", "--json").json
    copy = cli("conversations", "duplicate", edited["conversation_id"], "--json").json["conversation_id"]

    def asked(conversation_id: str) -> list[str]:
        return [turn["question"] for turn in cli("conversations", "show", conversation_id, "--json").json]

    assert edited["citations"][0]["page"] == 1
    assert asked(first) == [QUESTION, "What is the code of room 3?"]
    assert asked(edited["conversation_id"]) == asked(copy) == [QUESTION, "What is the code of room 1?"]
    titles = {each["title"] for each in cli("conversations", "list", document_id, "--json").json}
    assert cli("conversations", "--json").json == cli("conversations", "list", "--json").json
    assert titles == {QUESTION, "What is the code of room 1?", "What is the code of room 1? (copy)"}
    assert cli(*ask, "--instead-of", "3", "--json").json["error"] == "DocumentNotFound"
    assert cli("conversations", "duplicate", "nowhere", "--json").json["error"] == "DocumentNotFound"


def test_several_documents_are_asked(cli: Cli, document_id: str, tmp_path: Path) -> None:
    other = tmp_path / "ferry.txt"
    other.write_text("The ferry to Moss leaves at noon. Its captain is Ada Holm.")
    assert "Nothing has been asked yet." in cli("conversations").out
    ferry = cli("read", other, "--json").json["document_id"]
    answer = cli("ask", document_id, "ferry", "Who is the captain of the ferry to Moss?", "--json").json
    assert answer["citations"][0]["document_id"] == ferry and answer["looked"].startswith("Looked through 2 documents")
    again = cli("ask", "--all", QUESTION)
    assert f"[1] {cli('show', document_id, '--json').json['title']}, p. 2" in again.out
    assert "Looked through 2 documents" in again.out
    title = cli("show", document_id, "--json").json["title"]
    listed = cli("conversations").out.splitlines()
    assert listed[0].endswith(f"{QUESTION}  (ferry, {title})") or listed[0].endswith(f"{QUESTION}  ({title}, ferry)")
    assert len(listed) == len(cli("conversations", "list", "ferry").out.splitlines()) == 2
    assert cli("ask", "Who?", "--json").json["error"] == "BadSetting"


def test_documents_and_conversations_are_renamed(cli: Cli, document_id: str) -> None:
    assert cli("rename", document_id, "  The east\nwing ", "--json").json["title"] == "The east wing"
    asked = cli("ask", "east wing", QUESTION, "--json").json["conversation_id"]
    cli("conversations", "rename", asked, "Codes")
    assert [each["title"] for each in cli("conversations", "list", document_id, "--json").json] == ["Codes"]
    for name in ("", "  ", "x" * 201):
        assert cli("rename", document_id, name, "--json").json["error"] == "BadName"
        assert cli("conversations", "rename", asked, name, "--json").json["error"] == "BadName"
    assert cli("conversations", "rename", "nowhere", "Codes", "--json").json["error"] == "DocumentNotFound"


def test_a_conversation_is_exported(cli: Cli, tmp_path: Path, settings: Settings) -> None:
    document_id = cli("read", paper.pdf(tmp_path / "rooms.pdf"), "--json").json["document_id"]
    asked = cli("ask", document_id, QUESTION, "--json").json
    export, out = ("conversations", "export", asked["conversation_id"]), tmp_path / "out"
    for form, begins in (("md", "# "), ("html", "<!doctype html>")):
        facts = cli(*export, "--format", form, "--out", out, "--json").json
        written = out.read_text()
        assert facts["bytes"] == out.stat().st_size and written.startswith(begins)
        assert QUESTION in written and "p. 2" in written and "Rooms of the east wing" in written
    cli(*export, "--format", "pdf", "--out", out)
    (annotation,) = (each.get_object() for page in PdfReader(out).pages for each in page.get("/Annots", ()))
    assert annotation["/Subtype"] == "/Highlight" and annotation["/Contents"].startswith(f"{QUESTION}\n\n")
    assert cli(*export, "--out", tmp_path, "--json").json["error"] == "BadSetting"
    assert cli(*export[:2], "nowhere", "--json").json["error"] == "DocumentNotFound"
    text = cli("read", paper.text(tmp_path / "rooms.txt", 2), "--json").json["document_id"]
    of_text = cli("ask", text, QUESTION, "--json").json["conversation_id"]
    assert cli(*export[:2], of_text, "--format", "pdf", "--json").json["error"] == "UnsupportedFile"


def test_a_read_document_is_exported_and_imported(cli: Cli, document_id: str, tmp_path: Path) -> None:
    asked = cli("ask", document_id, QUESTION, "--json").json
    out = tmp_path / "wing.docpod"
    assert cli("export", document_id, "--out", out, "--json").json["bytes"] == out.stat().st_size
    cli("delete", document_id)
    assert cli("conversations", "--json").json == []
    facts = cli("import", out, "--json").json
    assert (facts["document_id"], facts["already_read"]) == (document_id, True)
    (listed,) = cli("conversations", "--json").json
    (turn,) = cli("conversations", "show", listed["conversation_id"], "--json").json
    assert (turn["answer"], turn["citations"]) == (asked["answer"], asked["citations"])
    assert cli("export", document_id, "--out", tmp_path, "--json").json["error"] == "BadSetting"
    out.write_bytes(out.read_bytes()[:500])
    assert cli("import", out, "--json").json["error"] == "DamagedDocument"


def test_words_are_searched(cli: Cli, document_id: str) -> None:
    cli("ask", document_id, QUESTION)
    found = cli("search", "porter", "that", "da", "--json").json
    assert [each["document_id"] for each in found["documents"]] == [document_id]
    assert found["documents"][0]["count"] == 4 and found["turns"] == []
    assert cli("search", QUESTION, "--json").json["turns"][0]["document_id"] == document_id
    assert "Nothing has these words." in cli("search", "zebra").out
    assert "p. 1: " in cli("search", "porter").out


@pytest.mark.parametrize("verb", [("conversations", "show"), ("conversations", "delete"), ("regenerate",)])
def test_a_conversation_that_is_not_there(cli: Cli, document_id: str, verb: tuple[str, ...]) -> None:
    assert cli(*verb, "nowhere", "--json").json["error"] == "DocumentNotFound"


def test_several_files_and_the_sample_are_read_at_once(cli: Cli, tmp_path: Path, settings: Settings) -> None:
    one, two = (paper.text(tmp_path / f"{name}.txt", 1 + number) for number, name in enumerate(("one", "two")))
    facts = cli("read", one, two, "--json").json
    assert [each["title"] for each in facts] == ["one", "two"]
    assert cli("read", one, tmp_path / "nowhere.txt", "--json").json["error"] == "BadSetting"
    assert cli("read", "--json").json["error"] == "BadSetting"
    assert (
        cli("read", "--sample", "--password", "unneeded", "--max-pages", "1", "--json").json["error"]
        == "DocumentTooLarge"
    )


def test_a_recipe_is_chosen_and_the_other_memory_removed(cli: Cli, document_id: str) -> None:
    before = cli("recipe", document_id, "--json").json
    assert before["chosen"] == "exact" and "light" in [step["name"] for step in before["steps"]]
    after = cli("recipe", document_id, "light", "--json").json
    assert (after["chosen"], after["answers_from"]) == ("light", "light")
    assert [name for name, _ in after["kept"]] == ["exact"]
    assert cli("recipe", document_id, "--remove", "exact", "--json").json["kept"] == []
    assert "* light" in cli("recipe", document_id).out
    assert cli("recipe", document_id, "--remove", "light", "--json").json["error"] == "Busy"
    assert cli("ask", document_id, QUESTION, "--json").json["citations"][0]["page"] == 2


def test_a_page_is_written(cli: Cli, document_id: str, tmp_path: Path) -> None:
    facts = cli("page", document_id, "2", "--out", tmp_path / "two", "--json").json
    assert (tmp_path / "two").read_bytes()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
    assert facts["bytes"] == (tmp_path / "two").stat().st_size
    assert cli("page", document_id, "99", "--json").json["error"] == "DocumentNotFound"
    assert cli("page", document_id, "1", "--out", tmp_path, "--json").json["error"] == "BadSetting"


def test_reading_is_paused_and_cancelled(cli: Cli, settings: Settings, tmp_path: Path) -> None:
    app = App(settings)
    reading = paper.planned(app, paper.text(tmp_path / "waits.txt", 8))
    app.close()
    assert cli("pause", "waits", "--json").json["state"] == "waiting"
    assert cli("cancel", "waits", "--json").json["state"] == "cancelled"
    assert cli("read", tmp_path / "waits.txt", "--json").json["already_read"] is False
    assert reading.document_id == cli("show", "waits", "--json").json["document_id"]


def test_keys_are_made_listed_and_revoked(cli: Cli, settings: Settings) -> None:
    made = cli("keys", "create", "a notebook", "--scopes", "ask, write", "--json").json
    assert made["scopes"] == ["ask", "write"] and made["key"].startswith(made["id"])
    assert made["key"].encode() not in paper.everything(settings.home)
    other = cli("keys", "create", "a notebook", "--json").json
    assert other["scopes"] == ["read", "ask"]
    listed = cli("keys", "list", "--json").json
    assert [each["id"] for each in listed] == [made["id"], other["id"]] and "key" not in listed[0]
    assert cli("keys", "revoke", "a notebook", "--json").json["error"] == "NoSuchKey"
    assert cli("keys", "revoke", made["id"], "--json").json["revoked"] is True
    assert cli("keys", "revoke", made["id"], "--json").json["error"] == "NoSuchKey"
    app = App(settings)
    assert app.keys.key_of(made["key"]) is None
    found = app.keys.key_of(other["key"])
    assert found is not None and found.id == other["id"]
    assert app.keys.key_of(other["key"][:-1]) is None
    app.close()
    shown = cli("keys", "create", "shown").out
    assert shown.splitlines()[0].startswith("docpod-") and "not shown again" in shown


@pytest.mark.parametrize(("name", "scopes"), [("x", "read,everything"), ("x", ","), (" ", "read")])
def test_a_key_that_would_open_nothing_is_refused(cli: Cli, name: str, scopes: str) -> None:
    assert cli("keys", "create", name, "--scopes", scopes, "--json").json["error"] == "BadSetting"


def test_documents_are_tagged_sorted_and_put_in_order(cli: Cli, document_id: str, tmp_path: Path) -> None:
    other = tmp_path / "ferry.txt"
    other.write_text("The ferry to Moss leaves at noon.")
    ferry = cli("read", other, "--json").json["document_id"]
    assert cli("tag", "ferry", "Boats", "#2024", "--json").json == {"document_id": ferry, "tags": ["Boats", "2024"]}
    assert cli("tag", "ferry", "sea", "--remove", "2024").out == "#Boats #sea\n"
    assert "no tags" in cli("tag", document_id).out
    assert cli("tag", "ferry", "--remove", "rooms").code == 2
    assert [each["document_id"] for each in cli("ls", "--tag", "boats", "--json").json] == [ferry]
    assert cli("ls", "#sea", "--json").json[0]["tags"] == ["Boats", "sea"]
    assert "#Boats" in cli("ls").out and "Nothing matches." in cli("ls", "--tag", "none").out
    size = [each["document_id"] for each in cli("ls", "--sort", "size", "--json").json]
    assert size == [document_id, ferry] and [each["document_id"] for each in cli("ls", "--json").json] == size[::-1]
    assert "Nothing waits" in cli("queue").out
    assert cli("queue", "ferry", "--json").json["error"] == "DocumentNotFound"


def test_a_document_is_moved_in_the_queue(cli: Cli, settings: Settings, tmp_path: Path) -> None:
    app = App(settings)
    ids = [app.library.add(paper.text(tmp_path / f"{each}.txt", each), f"{each}.txt") for each in (1, 2, 3)]
    for each in ids:
        list(app.library.ingest.parse(each))
        list(app.library.ingest.plan(each))
    app.close()
    assert [each["document_id"] for each in cli("queue", "--json").json] == ids
    assert [each["document_id"] for each in cli("queue", ids[2], "--json").json] == [ids[2], ids[0], ids[1]]
    moved = cli("queue", ids[0], "down", "--json").json
    assert [each["document_id"] for each in moved] == [ids[2], ids[1], ids[0]]
    assert f"  1  {ids[2][:8]}" in cli("queue").out
