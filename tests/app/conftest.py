"""Apps over a tiny random model, whose evidence heads are given so that no test has to find them."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from app.errors import AppError
from app.main import App
from app.readers import ReaderLimits, sandbox, worker
from app.settings import Settings
from engine.runtime.prefill.builder import PodBuilder
from storage import Home, Store
from tests.app import paper

OpenApp = Callable[..., App]
PAGES = 8
"""Of the document that most tests read."""


class Turns:
    """Lets the model read one chunk for every turn that is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turns = threading.Semaphore(0)
        self._free = False
        """Whether chunks are read without a turn."""
        self.begun = self.given = 0
        begin = PodBuilder.begin

        def begin_in_turn(builder: PodBuilder, ids: list[int]) -> object:
            if threading.current_thread().name == "reading":
                self.begun += 1
                if self._free:
                    self.given += 1
                else:
                    self._turns.acquire()
            return begin(builder, ids)

        monkeypatch.setattr(PodBuilder, "begin", begin_in_turn)

    def give(self, chunks: int = 1) -> None:
        self.given += chunks
        self._turns.release(chunks)

    def give_next(self) -> None:
        """A turn to a reader that stands and waits for one."""
        if self.begun > self.given:
            self.give()

    def give_all(self) -> None:
        self._free = True
        if (waiting := self.begun - self.given) > 0:
            self.give(waiting)

    def take_all(self) -> None:
        """From now on a chunk needs a turn again."""
        self._free = False
        while self._turns.acquire(blocking=False):
            self.given -= 1


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    turns = Turns(monkeypatch)
    yield turns
    turns.give_all()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model has no use for several threads, which only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read without a process of their own: for tests of what is read, not of who may do what."""

    process = sandbox._replies

    def replies(request: dict[str, object], limits: ReaderLimits) -> Iterator[object]:
        if request["do"] == "tell":
            # Of what a process is held by.
            yield from process(request, limits)
            return
        try:
            for reply in worker._answer(request | asdict(limits)):
                yield json.loads(json.dumps(reply))
        except AppError as error:
            yield {"error": type(error).__name__, "message": error.message, "hint": error.hint}

    # Its end would be that of the tests.
    monkeypatch.setattr(worker, "_restart_clock", lambda seconds: None)
    monkeypatch.setattr(sandbox, "_replies", replies)


@pytest.fixture(scope="session")
def prepared_models(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home's folder of models after the tiny model was used there before."""
    return paper.prepare_models(tiny_model_dir, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def plain_settings(tiny_model_dir: Path) -> Settings:
    """Small chunks and short answers."""
    return Settings(model=str(tiny_model_dir), chunk_tokens=128, max_answer_tokens=8, meaning=False, prepare=False)


@pytest.fixture(scope="session")
def read_home(
    plain_settings: Settings, prepared_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A home in which the document of `source` was read, and its id."""
    home = tmp_path_factory.mktemp("read") / "home"
    shutil.copytree(prepared_models, home / "models")
    app = App(replace(plain_settings, home=home))
    document_id = paper.read_here(app, paper.text(home.with_name("a.txt"), PAGES))
    app.close()
    return home, document_id


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, plain_settings: Settings, prepared_models: Path
) -> Settings:
    """A home of its own; where a test asks for `read_document`, one that has read it already."""
    home = tmp_path / "home"
    if "read_document" in request.fixturenames:
        shutil.copytree(request.getfixturevalue("read_home")[0], home)
    else:
        shutil.copytree(prepared_models, home / "models")
    return replace(plain_settings, home=home)


@pytest.fixture
def read_document(settings: Settings, read_home: tuple[Path, str]) -> str:
    """The document of `source`, read by an app before: its id."""
    return read_home[1]


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """The database of the home, beside whatever app is open."""
    store = Store.open(Home(settings.home).database_url)
    yield store
    store.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two sections of about seven chunks each."""
    return paper.text(tmp_path / "a.txt", PAGES)


@pytest.fixture
def open_app(settings: Settings) -> Iterator[OpenApp]:
    """Opens an app on the home, with some settings changed; all are closed at the end."""
    opened: list[App] = []

    def open_one(**changes: object) -> App:
        opened.append(App(replace(settings, **changes)))
        return opened[-1]

    yield open_one
    for app in opened:
        app.close()


@pytest.fixture
def app(open_app: OpenApp) -> App:
    """An app whose background is not running."""
    return open_app()
