"""The log: written for every command, small, private, and never in the way."""

import errno
import logging
import threading
from pathlib import Path

import pytest

from app import cli, log_file
from app.main import App
from app.settings import Settings
from tests.app import paper
from tests.app.conftest import OpenApp


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run on the home and the model of the settings."""
    for name in ("home", "model", "chunk_tokens"):
        monkeypatch.setenv(f"DOCPOD_{name.upper()}", str(getattr(settings, name)))


def no_page(app: App) -> None:
    pytest.fail("no page was asked for")


def test_a_command_leaves_a_log_that_holds_no_words_of_a_document(
    settings: Settings, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["read", str(source)], no_page) == 0
    assert cli.main(["ask", "--json", "a.txt", "What is the access code of room 3?"], no_page) == 0
    path = settings.home / log_file.NAME
    said = path.read_text()
    assert "INFO app.cli: DocPod begins: read" in said and "INFO app.reader_model: Loading " in said
    assert "room" not in said and "access code" not in said
    assert path.stat().st_mode & 0o777 == 0o600
    assert "INFO" not in capsys.readouterr().err
    assert logging.getLogger("app").level == logging.NOTSET, "as it was before"


def test_what_a_hint_points_at_is_there(open_app: OpenApp, settings: Settings, source: Path, monkeypatch) -> None:
    """A bug in the background: its id is in the log, with the traceback."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    def serve(app: App) -> None:
        monkeypatch.setattr(app.library.intake, "parse", broken)
        document_id = app.library.add(source, "a.txt")
        progress = paper.wait_for(app, document_id, "failed").progress
        assert progress.hint.startswith(log_file.NAME)
        short_id = progress.message.partition("(id ")[2][:6]
        said = (settings.home / log_file.NAME).read_text()
        assert f"failed ({short_id})" in said and "ZeroDivisionError: a bug" in said

    assert cli.main(["serve"], serve) == 0


def test_a_bug_that_ends_a_thread_is_in_the_log(tmp_path: Path) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    before = threading.excepthook
    with log_file.log_file(tmp_path):
        thread = threading.Thread(target=broken, name="model")
        thread.start()
        thread.join()
    said = (tmp_path / log_file.NAME).read_text()
    assert "the thread model ended" in said and "ZeroDivisionError: a bug" in said
    assert threading.excepthook is before


def test_it_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MOST_BYTES", 2_000)
    with log_file.log_file(tmp_path):
        for number in range(200):
            logging.getLogger("app.test").info("line %d", number)
    kept = sorted(tmp_path.glob("*.log*"))
    assert [path.name for path in kept] == ["docpod.log", "docpod.log.1"]
    assert all(path.stat().st_size <= 2_000 for path in kept)
    assert "line 199" in kept[0].read_text()


def test_other_libraries_only_warn(tmp_path: Path) -> None:
    with log_file.log_file(tmp_path):
        logging.getLogger("httpx").info("HTTP Request: GET https://hub.example")
        logging.getLogger("httpx").warning("a warning")
    said = (tmp_path / log_file.NAME).read_text()
    assert "hub.example" not in said and "a warning" in said


def test_without_a_file_everything_else_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / log_file.NAME).mkdir()
    with log_file.log_file(tmp_path):
        logging.getLogger("app.test").warning("heard elsewhere")
    assert "no log is written" in caplog.text and "heard elsewhere" in caplog.text


def test_a_full_disk_is_no_matter_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with log_file.log_file(tmp_path):
        monkeypatch.setattr(log_file.RotatingFileHandler, "doRollover", full)
        monkeypatch.setattr(log_file.RotatingFileHandler, "shouldRollover", lambda *_: True)
        logging.getLogger("app.test").info("lost")
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / log_file.NAME).read_text() == ""


def test_a_disk_that_fails_while_the_log_is_closed_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(log_file._LogFile, "flush", fails)
    assert cli.main(["ls"], no_page) == 0
    assert "Traceback" not in capsys.readouterr().err
