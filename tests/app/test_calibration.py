"""Finding a model's evidence heads: in the background, behind everybody else, said, and once."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app import cli, idle, reader_model
from app.events import ReaderStatus
from app.idle import Idle
from app.main import App
from app.reader_model import ReaderModel
from app.settings import Settings
from engine.core.errors import EngineError
from engine.evidence import heads
from engine.evidence.calibration import calibrate
from tests.app import paper
from tests.app.conftest import OpenApp
from ui.render import readers

pytestmark = pytest.mark.usefixtures("in_this_process")

QUESTION = "What is the access code of room 3?"
FOUND = heads.EvidenceHeads("tiny", "d1", ((2, 2),), (0.5,), "sections")

Share = Callable[[float], None]


@pytest.fixture(autouse=True)
def no_heads_are_known(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the first start with a model; nobody has to be quiet for long."""
    monkeypatch.setattr(idle, "QUIET_SECONDS", 0.05)
    for path in (settings.home / "models").glob("*.heads.json"):
        path.unlink()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Calibration that does not end before this is set; meanwhile it asks again and again whether it may go on."""
    goes_on = threading.Event()

    def slow(runner: object, pause: Share) -> heads.EvidenceHeads:
        while not goes_on.wait(0.01):
            pause(0.25)
        return FOUND

    monkeypatch.setattr(reader_model, "calibrate", slow)
    yield goes_on
    goes_on.set()


def test_reading_and_asking_do_not_wait_for_it(
    open_app: OpenApp, source: Path, held: threading.Event, settings: Settings
) -> None:
    app = open_app()
    document_id = paper.read_here(app, source)
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    assert answer.citations
    assert not app.model.calibrated(0)
    status = app.status()
    assert (
        status.state == "ready" and "looks for an answer, once: " in status.doing and "by their words" in status.doing
    )
    paper.wait_until(lambda: "25%" in app.status().doing)
    held.set()
    paper.wait_until(lambda: app.model.calibrated(0))
    assert app.status().doing == ""
    assert app.model.wait().loaded.heads == FOUND
    assert paper.last(app.questions.ask(document_id, QUESTION)).citations


def test_reading_does_not_wait_for_what_is_compiled_for_it(
    open_app: OpenApp, source: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the next step is taken where nobody is at work, in the thread that reads."""
    threads: list[str] = []
    goes_on = threading.Event()

    def steps(*_: object) -> Iterator[None]:
        for _ in range(3):
            threads.append(threading.current_thread().name)
            assert goes_on.wait(60)
            yield

    held.set()
    monkeypatch.setattr(reader_model, "reads_ahead", lambda device: True)
    monkeypatch.setattr(reader_model, "prepare_reading", steps)
    app = open_app()
    idle = app.model.wait().loaded.idle
    paper.wait_until(lambda: bool(threads))
    with idle.work():
        goes_on.set()
        paper.read_here(app, source)
        assert len(threads) == 1
    paper.wait_until(lambda: app.model.calibrated(0))
    assert len(threads) == 3 and all(name.startswith("prefill") for name in threads)


def test_who_waited_for_the_model_goes_first(
    settings: Settings, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long loading took, somebody has to be idle for a while before anything is found out."""
    monkeypatch.setattr(idle, "QUIET_SECONDS", 600.0)
    model = ReaderModel(settings, settings.home / "models")
    began: list[bool] = []
    monkeypatch.setattr(model._idle, "_since", -1e9)
    wait = model._idle.wait
    monkeypatch.setattr(model._idle, "wait", lambda: began.append(wait()) or False)
    model.ready()
    paper.wait_until(lambda: model.status().doing != "")
    model.close()
    assert began == [False]


def test_what_was_found_is_there_at_the_next_start(settings: Settings) -> None:
    """By the real calibration, in which everything takes its turn."""
    first = ReaderModel(settings, settings.home / "models")
    assert not first.ready().heads.calibrated
    paper.wait_until(lambda: first.calibrated(0))
    found = first.ready().heads
    assert found.calibrated and found == calibrate(first.ready().runner)
    first.close()
    again = ReaderModel(settings, settings.home / "models")
    assert again.ready().heads == found and again.status().doing == ""
    again.close()


def test_closing_ends_it_and_the_next_start_begins_again(
    open_app: OpenApp, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []

    def endless(runner: object, pause: Share) -> heads.EvidenceHeads:
        while True:
            steps.append(0.0)
            pause(0.0)

    monkeypatch.setattr(reader_model, "calibrate", endless)
    app = open_app()
    app.model.wait()
    paper.wait_until(lambda: len(steps) > 3)
    app.close()
    ended = len(steps)
    assert not any(thread.name == "model" for thread in threading.enumerate())
    again = open_app()
    again.model.wait()
    paper.wait_until(lambda: len(steps) > ended)
    assert list((settings.home / "models").glob("*.heads.json")) == []


@pytest.mark.parametrize("failure", [EngineError("too little memory"), OSError("no room")])
def test_a_failure_leaves_the_model_as_it_is(
    failure: Exception,
    open_app: OpenApp,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(runner: object, pause: Share) -> heads.EvidenceHeads:
        raise failure

    monkeypatch.setattr(reader_model, "calibrate", fails)
    app = open_app()
    document_id = paper.read_here(app, source)
    paper.wait_until(lambda: app.model.calibrated(0))
    assert str(failure) in caplog.text
    assert app.status().state == "ready" and app.status().doing == ""
    assert paper.last(app.questions.ask(document_id, QUESTION)).citations


def test_a_torn_file_of_heads_is_made_anew(settings: Settings, held: threading.Event) -> None:
    held.set()
    folder = settings.home / "models"
    first = ReaderModel(settings, folder)
    paper.wait_until(lambda: first.calibrated(0) if first.ready() else False)
    first.close()
    model = first.ready().runner.model
    real = replace(FOUND, model=model.name, digest=model.digest)
    path = real.save(folder)
    path.write_bytes(path.read_bytes()[:20])
    again = ReaderModel(settings, folder)
    assert again.ready().recipes
    paper.wait_until(lambda: again.calibrated(0))
    assert again.ready().heads == FOUND
    again.close()


def test_two_folders_of_one_name_have_their_own_heads(
    tiny_model_dir: Path, settings: Settings, tmp_path: Path, held: threading.Event
) -> None:
    """The one's do not take the place of the other's."""
    held.set()
    folder = settings.home / "models"
    other = shutil.copytree(tiny_model_dir, tmp_path / "other" / tiny_model_dir.name)
    (other / "chat_template.jinja").write_text((other / "chat_template.jinja").read_text() + " ")
    kept = []
    for number, path in enumerate((tiny_model_dir, other)):
        opened = ReaderModel(replace(settings, model=str(path)), folder)
        model = opened.ready().runner.model
        kept.append(replace(FOUND, model=model.name, digest=model.digest, heads=((0, number),)))
        kept[-1].save(folder)
        opened.close()
    assert kept[0].model == kept[1].model
    for path, own in zip((tiny_model_dir, other), kept, strict=True):
        opened = ReaderModel(replace(settings, model=str(path)), folder)
        assert opened.ready().heads == own
        opened.close()


def test_the_command_line_reads_first_and_then_says_what_it_waits_for(
    settings: Settings,
    source: Path,
    held: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for name in ("home", "model", "chunk_tokens", "max_answer_tokens"):
        monkeypatch.setenv(f"DOCPOD_{name.upper()}", str(getattr(settings, name)))
    printed: list[str] = []

    def released() -> None:
        paper.wait_until(lambda: printed.extend(capsys.readouterr()) or "Ask:" in "".join(printed))
        held.set()

    thread = threading.Thread(target=released)
    thread.start()
    code = cli.main(["read", str(source)], lambda app: None)
    thread.join()
    assert code == 0
    assert "Ctrl-C leaves it for another time" in "".join([*printed, capsys.readouterr().err])
    assert cli.main(["ls"], lambda app: None) == 0
    assert "ready" in capsys.readouterr().out


def test_a_question_meanwhile_says_how_its_passages_are_chosen(
    settings: Settings,
    open_app: OpenApp,
    source: Path,
    held: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    app = open_app()
    document_id = paper.read_here(app, source)
    app.close()
    for name in ("home", "model", "chunk_tokens", "max_answer_tokens"):
        monkeypatch.setenv(f"DOCPOD_{name.upper()}", str(getattr(settings, name)))
    assert cli.main(["ask", "--json", document_id, QUESTION], lambda app: None) == 0
    said = capsys.readouterr()
    assert "looks for an answer, once: " in said.err and "by their words" in said.err
    assert json.loads(said.out)["citations"]


@pytest.mark.parametrize("doing", ["", "Finding out where it looks."])
def test_the_page_shows_it_beside_the_reader(doing: str) -> None:
    status = ReaderStatus("ready", "tiny", "as asked for", doing=doing)
    assert ('<p class="doing">Finding out where it looks.</p>' in readers.change(status, can_stop=False)) == bool(doing)
    assert "is ready" in readers.panel(status)


def test_work_that_can_wait_waits_for_everybody() -> None:
    at_work, order = Idle(), []

    def background() -> None:
        while at_work.wait():
            order.append("background")

    thread = threading.Thread(target=background)
    with at_work.work():
        with at_work.work():
            thread.start()
        order.append("foreground")
        # Time to go wrong.
        threading.Event().wait(0.3)
        assert order == ["foreground"]
    paper.wait_until(lambda: len(order) > 1)
    at_work.close()
    thread.join()
    assert set(order[1:]) == {"background"}


def test_reading_and_answering_count_as_work(
    app: App, source: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every chunk, and for an answer from its first to its last word."""
    document_id = paper.read_here(app, source)
    at_work = app.model.wait().loaded.idle
    counts: list[int] = []
    feed = type(app.model.wait().loaded.runner).run

    def run(self: object, *arguments: object) -> object:
        if threading.current_thread().name != "model":
            counts.append(at_work._at_work)
        return feed(self, *arguments)

    monkeypatch.setattr(type(app.model.wait().loaded.runner), "run", run)
    for event in app.questions.ask(document_id, QUESTION):
        del event
    (source.parent / "b.txt").write_text(source.read_text().replace("room", "hall"))
    paper.read_here(app, source.parent / "b.txt")
    assert len(counts) > 10 and all(counts)
    assert not at_work._at_work
