"""The command line: what each command prints, for people and as JSON, and how it fails."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from platformdirs import user_data_path
from pypdf import PdfWriter

from app.cli import main
from app.document_reader import DocumentReader
from app.main import App
from app.reader_model import ReaderModel
from app.settings import Settings
from engine.kvcache.recipe import NAMED
from engine.models.families.base import kv_shape
from storage import Home, checks
from tests import tiny_families
from tests.app import paper

pytestmark = pytest.mark.usefixtures("in_this_process")

READ_KEYS = {
    "document_id",
    "title",
    "pages",
    "pages_without_text",
    "note",
    "tokens",
    "sections",
    "seconds",
    "tokens_per_second",
    "pod_bytes",
    "bytes_per_token",
    "already_read",
}
ASK_KEYS = {
    "answer",
    "found",
    "citations",
    "sections",
    "reused_tokens",
    "recomputed_tokens",
    "first_token_seconds",
    "seconds",
    "tokens_per_second",
    "model",
    "recipe",
}
QUESTION = "What is the access code of room 2?"


class Run(NamedTuple):
    """What a command gave back and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on the standard output."""
        return json.loads(self.out)


Cli = Callable[..., Run]


def no_page(app: App) -> None:
    pytest.fail("no page was asked for")


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process, on the home and the model of the settings."""
    for field in fields(Settings):
        monkeypatch.delenv(f"DOCPOD_{field.name.upper()}", raising=False)
    for name in ("home", "model", "chunk_tokens", "max_answer_tokens"):
        monkeypatch.setenv(f"DOCPOD_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("DOCPOD_MEANING", "0")
    monkeypatch.setenv("DOCPOD_PREPARE", "0")

    def run(*arguments: str | Path) -> Run:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments], no_page)
        return Run(code, *capsys.readouterr())

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return paper.text(tmp_path / "East wing.txt")


@pytest.fixture
def document_id(cli: Cli, source: Path) -> str:
    return cli("read", source, "--json").json["document_id"]


def test_a_reading_that_another_process_ends_is_no_success(
    cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DocumentReader, "read", lambda *_: iter(()))
    ended = cli("read", source)
    assert (ended.code, ended.out) == (2, "")
    assert "Another DocPod process paused or cancelled" in ended.err


def test_read(cli: Cli, source: Path, settings: Settings) -> None:
    first = cli("read", source, "--json")
    assert (first.code, first.json.keys()) == (0, READ_KEYS)
    facts = first.json
    assert (facts["title"], facts["pages"], facts["pages_without_text"]) == ("East wing", 4, 0)
    assert (facts["sections"], facts["already_read"]) == (1, False)
    assert facts["tokens"] > 4 * 128 and facts["seconds"] > 0 and facts["tokens_per_second"] > 0
    assert facts["pod_bytes"] == sum(map(len, paper.blocks(settings.home).values()))
    assert facts["bytes_per_token"] == round(facts["pod_bytes"] / facts["tokens"], 1)
    assert source.exists()

    again = cli("read", source, "--json").json
    assert again == {**facts, "already_read": True}
    assert "East wing (read before)" in cli("read", source).out
    assert cli("read", source, "--json").json == again


@pytest.mark.parametrize("family", ["smollm3", "gemma4_text, keys and values of others"])
def test_other_families_read_and_answer(
    family: str, cli: Cli, source: Path, tiny_tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder: what layers keep is stored, comes back, and is asked."""
    folder = tmp_path / "reader"
    network = tiny_families.build(family)
    network.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    monkeypatch.setenv("DOCPOD_MODEL", str(folder))
    facts = cli("read", source, "--json").json
    assert "error" not in facts, facts
    shape = kv_shape(network.config, torch.float32)
    assert shape.num_bytes(facts["tokens"]) <= 2 * facts["pod_bytes"]
    assert facts["pod_bytes"] < 1.1 * shape.num_bytes(facts["tokens"])
    answer = cli("ask", facts["document_id"], QUESTION, "--json").json
    assert (answer["model"], answer["recipe"]) == ("reader", "exact")
    assert answer["found"] and answer["reused_tokens"] == facts["tokens"]
    assert answer["citations"][0]["quote"] == f"The access code of room 2 is {paper.code(2)}."


def test_read_ends_with_one_object_and_nothing_else(cli: Cli, source: Path) -> None:
    out = cli("read", source, "--json").out
    assert out.count("\n") == 1 and out.endswith("}\n")


def test_read_of_a_document_that_was_cancelled(cli: Cli, source: Path, settings: Settings) -> None:
    app = App(settings)
    document_id = paper.planned(app, source).document_id
    app.library.cancel(document_id)
    app.close()
    facts = cli("read", source, "--json").json
    assert facts["already_read"] is False and facts["pod_bytes"] > 0
    assert cli("show", document_id, "--json").json["state"] == "ready"


def test_read_an_encrypted_pdf(cli: Cli, tmp_path: Path, settings: Settings) -> None:
    path = paper.pdf(tmp_path / "a.pdf")
    writer = PdfWriter(path)
    writer.encrypt("sesame", algorithm="AES-256")
    writer.write(path)
    for arguments, error in (([], "PasswordNeeded"), (["--password", "simsim"], "WrongPassword")):
        run = cli("read", path, *arguments, "--json")
        assert (run.code, run.json["error"]) == (2, error)
    document_id = cli("read", path, "--password", "sesame", "--json").json["document_id"]
    app = App(settings)
    assert app.library.page_image(document_id, 1)
    app.close()
    assert cli("ask", document_id, QUESTION, "--json").json["citations"][0]["page"] == 2


def test_ask(cli: Cli, document_id: str) -> None:
    run = cli("ask", document_id[:8], QUESTION, "--json")
    assert run.code == 0 and run.json.keys() >= ASK_KEYS | {"conversation_id"}
    answer = run.json
    assert (answer["found"], answer["sections"], answer["coverage"]) == (True, [0], "")
    cited = answer["citations"][0]
    assert cited.keys() == {"page", "label", "quote", "boxes", "span", "document_id"}
    assert (cited["page"], cited["label"], cited["quote"]) == (2, "2", "The access code of room 2 is 4074.")
    assert all(len(box) == 4 and all(0 <= edge <= 1 for edge in box) for box in cited["boxes"])
    assert answer["reused_tokens"] == cli("show", document_id, "--json").json["tokens"]

    shown = cli("ask", "east wing", QUESTION)
    assert "[1] p. 2: “The access code of room 2 is 4074.”" in shown.out
    assert answer["answer"].removesuffix(" [1]") in shown.out
    absent = cli("ask", document_id, "Zeppelin?")
    assert absent.out.startswith("[1] p. ")
    assert "Not found in the document. I looked through all 4 pages" in absent.out


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("What is it about?", "- The access code of room 2 is 4074. [2]"),
        ("How many pages has it?", "4 pages."),
        ("What is on page 3?", "- The access code of room 3 is 4111. [1]"),
    ],
)
def test_ask_about_the_document(cli: Cli, document_id: str, question: str, says: str) -> None:
    run = cli("ask", document_id, question)
    assert (run.code, says in run.out) == (0, True), run.out
    assert "to the first word" not in run.out


def test_ls(cli: Cli, document_id: str, tmp_path: Path) -> None:
    other = cli("read", paper.text(tmp_path / "West wing.txt", 1), "--json").json["document_id"]
    rows = cli("ls", "--json").json
    assert [row["document_id"] for row in rows] == [other, document_id]
    assert {row["state"] for row in rows} == {"ready"}
    assert [row["document_id"] for row in cli("ls", "east", "--json").json] == [document_id]
    lines = cli("ls").out.splitlines()
    assert len(lines) == 2 and lines[1].startswith(document_id[:8]) and lines[1].endswith("East wing")


def test_an_empty_library(cli: Cli) -> None:
    assert cli("ls", "--json").json == []
    assert "run_app.py read" in cli("ls").out


def test_show(cli: Cli, document_id: str) -> None:
    facts = cli("show", document_id, "--json").json
    assert (facts["document_id"], facts["pages"], facts["state"]) == (document_id, 4, "ready")
    assert facts["tokens_read"] == facts["tokens"]
    assert document_id in cli("show", "east wing").out


def test_attachments(cli: Cli, source: Path, tmp_path: Path) -> None:
    writer = PdfWriter(paper.pdf(tmp_path / "cover.pdf", 1))
    writer.add_attachment("../East wing.txt", source.read_bytes())
    writer.add_attachment("photo.png", b"\x89PNG\r\n")
    writer.write(tmp_path / "cover.pdf")
    read = cli("read", tmp_path / "cover.pdf")
    cover = cli("ls", "--json").json[0]["document_id"]
    assert "not read with it: ../East wing.txt, photo.png." in read.out
    assert f"attachments {cover[:8]}" in read.out
    names = [each["name"] for each in cli("attachments", cover, "--json").json]
    assert names == cli("show", cover, "--json").json["attachments"] == ["../East wing.txt", "photo.png"]
    added = cli("attachments", cover, "1", "--json").json
    assert (added["title"], added["pages"], added["already_read"]) == ("East wing", 4, False)
    for number, error in (("2", "UnsupportedFile"), ("3", "DocumentNotFound"), ("0", "DocumentNotFound")):
        assert cli("attachments", cover, number, "--json").json["error"] == error
    assert len(cli("ls", "--json").json) == 2
    assert "Nothing is attached" in cli("attachments", "east wing.txt").out


def test_delete(cli: Cli, document_id: str, settings: Settings) -> None:
    assert cli("delete", document_id[:6], "--json").json == {"document_id": document_id, "deleted": True}
    assert cli("ls", "--json").json == []
    assert list((settings.home / "pods").iterdir()) == list((settings.home / "documents").iterdir()) == []
    assert cli("delete", document_id, "--json").json["error"] == "DocumentNotFound"


def test_a_name_of_several_documents_is_refused(cli: Cli, document_id: str, tmp_path: Path) -> None:
    cli("read", paper.text(tmp_path / "West wing.txt", 1))
    run = cli("delete", "wing", "--json")
    assert (run.code, run.json["error"]) == (2, "DocumentNotFound")
    assert "2 documents match" in run.json["message"] and document_id[:8] in run.json["message"]
    assert len(cli("ls", "--json").json) == 2


def test_doctor(cli: Cli, document_id: str, settings: Settings) -> None:
    well = cli("doctor", "--json").json
    assert (well["documents"], well["damaged_blocks"], well["model_state"]) == (1, [], "ready")
    assert well["blocks_checked"] == len(paper.blocks(settings.home)) > 0
    assert well["home"] == str(settings.home) and well["torch"] and well["numba"]
    assert well["slow_paths"] == []
    assert well["kernels"] == "Triton's" or "NVIDIA GPU" in well["kernels"]
    path, *others = sorted((settings.home / "pods").iterdir())
    path.write_bytes(others[0].read_bytes())
    assert cli("doctor", "--json").json["damaged_blocks"] == [path.name]
    exact, light = (int(well[f"recipe {name}"].split(": ")[1].split()[0].replace(",", "")) for name in [*NAMED][:2])
    assert "docpod readers prepare" in well["recipe archive"]
    assert well["recipe light"].startswith("keep40+k4v4h: ") and light < exact
    assert path.name in cli("doctor").out
    assert cli("doctor", "--json", "--memory-mb", "2500").json["pods, of memory"] == "0.0 of 2.5 GB"


def test_doctor_without_a_model_says_what_it_lacks(cli: Cli, tmp_path: Path) -> None:
    facts = cli("doctor", "--json", "--model", tmp_path / "nowhere").json
    assert facts["model_state"] == "failed" and "nowhere" in facts["why"]
    assert facts["documents"] == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["read", "nowhere.pdf"], "BadSetting"),
        (["read", "."], "BadSetting"),
        (["ask", "nothing", "Why?"], "DocumentNotFound"),
        (["show", ""], "DocumentNotFound"),
        (["ls", "--max-pages", "0"], "BadSetting"),
    ],
)
def test_errors(cli: Cli, arguments: list[str], error: str) -> None:
    for_programs = cli(*arguments, "--json")
    assert (for_programs.code, for_programs.json.keys()) == (2, {"error", "message", "hint"})
    assert for_programs.json["error"] == error
    for_people = cli(*arguments)
    assert (for_people.code, for_people.out) == (2, "")
    assert for_people.err == f"{for_programs.json['message']}\n{for_programs.json['hint']}\n"


def test_a_question_that_is_refused(cli: Cli, document_id: str) -> None:
    assert cli("ask", document_id, " ", "--json").json["error"] == "QuestionRejected"
    assert cli("ask", document_id, "why? " * 4000, "--json").json["error"] == "QuestionRejected"


def test_a_model_that_is_not_there(cli: Cli, source: Path, tmp_path: Path) -> None:
    run = cli("read", source, "--model", tmp_path / "nowhere", "--json")
    assert (run.code, run.json["error"]) == (2, "ModelUnavailable")
    assert "--model" in run.json["hint"]


def test_a_document_that_another_process_reads(cli: Cli, source: Path, settings: Settings) -> None:
    document_id = cli("read", source, "--json").json["document_id"]
    cli("delete", document_id)
    app = App(settings)
    reading = paper.planned(app, source)
    with Home(settings.home).lock(f"reading-{reading.id}"):
        assert cli("read", source, "--json").json["error"] == "Busy"
    app.close()
    assert cli("read", source, "--json").json["already_read"] is False


def test_interrupted_by_the_keyboard(cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("app.block_store.write_block", interrupt)
        run = cli("read", source, "--json")
    assert (run.code, run.out) == (130, "")
    assert "kept" in run.err
    assert cli("read", source, "--json").json["already_read"] is False


def test_a_home_that_cannot_be_used(cli: Cli, source: Path) -> None:
    run = cli("ls", "--home", source, "--json")
    assert (run.code, run.json["error"]) == (2, "BadSetting")
    assert str(source) in run.json["message"] and "--home" in run.json["hint"]


def test_a_home_of_a_later_version(cli: Cli, document_id: str, settings: Settings) -> None:
    with closing(sqlite3.connect(settings.home / "docpod.sqlite3")) as database, database:
        checks.equip(database)
        database.execute("UPDATE schema_version SET version = 1000 + version")
    (settings.home / "sealed").unlink()
    run = cli("ls", "--json")
    assert (run.code, run.json["error"]) == (2, "BadSetting")
    assert "later version" in run.json["message"]


def test_settings_come_from_the_command_line_then_the_environment_then_the_default(
    cli: Cli, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReaderModel, "start", lambda model: None)

    def used(*arguments: str) -> Settings:
        seen: list[Settings] = []
        assert main([*arguments], lambda app: seen.append(app.settings)) == 0
        return seen[0]

    assert used() == settings
    monkeypatch.setenv("DOCPOD_MAX_PAGES", "77")
    monkeypatch.setenv("DOCPOD_BROWSER", "no")
    monkeypatch.setenv("DOCPOD_THREADS", "")
    changed = used("--max-pages", "78", "--memory-mb", "7", "--gpu-memory-mb", "0")
    assert (changed.max_pages, changed.memory_mb, changed.browser, changed.threads) == (78, 7, False, 0)
    monkeypatch.setenv("DOCPOD_GPU_MEMORY_MB", "900")
    assert (used().memory_mb, used().gpu_memory_mb) == (0, 900)
    assert used().max_pages == 77
    assert used("serve", "--browser", "--home", str(tmp_path / "other")).home == tmp_path / "other"
    assert used("--browser").browser and not used("--no-browser").browser
    assert used("--max-pages", "79", "serve").max_pages == 79
    assert Settings().home == user_data_path("docpod", appauthor=False)


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("max_pages", "many", "whole number"),
        ("max_pages", "-5", "whole number"),
        ("max_pages", "0", "at least 1"),
        ("chunk_tokens", "1_000", "whole number"),
        ("threads", "-1", "at least 0"),
        ("gpu_memory_mb", "half", "at least 0"),
        ("port", "7.5", "whole number"),
        ("recipe", "tiny", "compact"),
        ("browser", "maybe", "1 or 0"),
    ],
)
def test_a_malformed_setting_is_named_with_its_form(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, form: str
) -> None:
    variable, option = f"DOCPOD_{name.upper()}", f"--{name.replace('_', '-')}"
    if name != "browser":
        run = cli("ls", f"{option}={value}", "--json")
        assert (run.code, run.json["error"]) == (2, "BadSetting")
        assert option in run.json["message"] and value in run.json["message"] and form in run.json["hint"]
    monkeypatch.setenv(variable, value)
    run = cli("ls", "--json")
    assert (run.code, run.json["error"]) == (2, "BadSetting")
    assert variable in run.json["message"] and value in run.json["message"] and form in run.json["hint"]


def test_an_empty_option_is_refused(cli: Cli) -> None:
    for option in ("--home", "--model", "--max-pages"):
        assert "empty" in cli("ls", option, "", "--json").json["message"]


@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_the_page_is_what_runs_without_a_command(cli: Cli, arguments: list[str]) -> None:
    served: list[str] = []

    def serve(app: App) -> None:
        app.model.wait()
        served.append(app.status().state)

    assert main(arguments, serve) == 0
    assert served == ["ready"]


def test_the_process_ends_quietly_while_the_model_is_loaded(settings: Settings, tmp_path: Path) -> None:
    """The page is closed before anything is loaded, and Python's own end would crash in the loading thread."""
    script = tmp_path / "closed_at_once.py"
    source = (paper.ROOT / "run_app.py").read_text()
    script.write_text(source.replace("sys.argv[1:], show_page", "sys.argv[1:], lambda app: None"))
    environment = {**os.environ, "DOCPOD_HOME": str(settings.home), "DOCPOD_MODEL": settings.model}
    environment["PYTHONPATH"] = str(paper.ROOT)
    ended = subprocess.run([sys.executable, script], capture_output=True, env=environment, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "Traceback" not in ended.stderr and "terminate" not in ended.stderr
