"""The verbs of a library in any order, by two apps that are opened and closed meanwhile, against a plain dictionary."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from app.errors import DocumentNotFound, NotRead
from app.main import App
from tests.app import paper
from tests.app.conftest import OpenApp

pytestmark = pytest.mark.usefixtures("in_this_process")
STEPS = 50


@dataclass
class Known:
    """What must be told of a document."""

    title: str
    tags: tuple[str, ...] = ()
    is_read: bool = False
    conversations: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Question and answer of each."""


class Machine:
    """Apps on one library, and what it must hold of some files after every step."""

    def __init__(self, open_app: OpenApp, files: Sequence[Path], apps: int, random: Random) -> None:
        self._open, self._random, self._files = open_app, random, files
        self._apps = [open_app() for _ in range(apps)]
        self._ids: dict[Path, str] = {}
        self._answers: dict[tuple[str, str], str] = {}
        """The first answer to each question of a document, which every other one must equal."""
        self.known: dict[str, Known] = {}
        self.steps: list[str] = []
        self._verbs = (self.add, self.add, self.read, self.read, self.ask, self.ask, self.rename, self.tag, self.delete)
        self._verbs += (self.cancel, self.forget, self.reopen)

    def run(self, steps: int) -> None:
        """Do some things by any of the apps, to documents that are there or not."""
        for _ in range(steps):
            verb, path = self._random.choice(self._verbs), self._random.choice(self._files)
            app = self._random.choice(self._apps)
            self.steps.append(f"{verb.__name__} {path.stem} by {self._apps.index(app)}")
            document_id = self._ids.get(path, "0" * 64)
            if verb in (self.add, self.reopen) or document_id in self.known:
                verb(app, path, document_id)
            elif verb != self.forget:
                with pytest.raises(DocumentNotFound):
                    verb(app, path, document_id)
            self.check()

    def check(self) -> None:
        """Every app tells what the dictionary does."""
        for app in self._apps:
            entries = {each.document_id: each for each in app.library.catalogue.entries()}
            assert entries.keys() & {*self._ids.values()} == self.known.keys(), self.steps
            for document_id, known in self.known.items():
                entry = entries[document_id]
                told = entry.title, entry.tags, entry.progress.stage == "ready"
                assert told == (known.title, known.tags, known.is_read), self.steps
                listed = [each.conversation_id for each in app.questions.conversations(document_id)]
                turns = {
                    each: [(turn.question, turn.answer.answer) for turn in app.questions.turns(each)] for each in listed
                }
                assert turns == {each: [turn] for each, turn in known.conversations.items()}, self.steps

    def add(self, app: App, path: Path, _: str) -> None:
        self._ids[path] = app.library.add(path, path.name, move=False)
        self.known.setdefault(self._ids[path], Known(path.stem))

    def read(self, app: App, _: Path, document_id: str) -> None:
        for _ in app.library.wait(document_id):
            pass
        self.known[document_id].is_read = True

    def ask(self, app: App, _: Path, document_id: str) -> None:
        question = f"What is the access code of room {self._random.randint(1, 2)}?"
        events = app.questions.ask(document_id, question)
        if document_id in self.known and not self.known[document_id].is_read:
            with pytest.raises(NotRead):
                next(events)
            return
        answer = paper.last(events)
        assert answer.answer == self._answers.setdefault((document_id, question), answer.answer), self.steps
        self.known[document_id].conversations[answer.conversation_id] = question, answer.answer

    def rename(self, app: App, path: Path, document_id: str) -> None:
        title = f"{path.stem} {len(self.steps)}"
        app.library.rename(document_id, title)
        self.known[document_id].title = title

    def tag(self, app: App, path: Path, document_id: str) -> None:
        app.library.catalogue.tag(document_id, f"#{path.stem} #{len(self.steps)}")
        self.known[document_id].tags = path.stem, str(len(self.steps))

    def delete(self, app: App, _: Path, document_id: str) -> None:
        app.library.delete(document_id)
        del self.known[document_id]

    def cancel(self, app: App, _: Path, document_id: str) -> None:
        app.library.cancel(document_id)

    def forget(self, app: App, _: Path, document_id: str) -> None:
        if conversations := self.known[document_id].conversations:
            app.questions.delete(conversations.popitem()[0])

    def reopen(self, app: App, *_: object) -> None:
        app.close()
        self._apps[self._apps.index(app)] = self._open()


@pytest.mark.parametrize("seed", range(2))
def test_a_library_tells_what_was_done_to_it_in_any_order(open_app: OpenApp, tmp_path: Path, seed: int) -> None:
    machine = Machine(open_app, files(tmp_path), 2, Random(seed))
    machine.run(STEPS)
    assert any(each.startswith("ask") for each in machine.steps)


def test_two_at_once_do_not_disturb_each_other(open_app: OpenApp, tmp_path: Path) -> None:
    paths = files(tmp_path)
    machines = [Machine(open_app, own, 1, Random(own[0].stem)) for own in (paths[:2], paths[2:])]
    with ThreadPoolExecutor(2) as threads:
        for _ in threads.map(lambda machine: machine.run(STEPS), machines):
            pass


def files(folder: Path) -> list[Path]:
    """Files of a page or a few."""
    return [paper.text(folder / f"{name}.txt", pages) for pages, name in enumerate("abcd", 2)]
