"""A small library that faults happen to, the commands that are at work then, and what must be true afterwards."""

import io
import json
import os
import shutil
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app import cli, passphrase
from app.errors import AppError, NotRead
from app.events import Answer
from app.main import App
from app.refusals import as_app_error
from app.settings import Settings
from engine.compression import basis_fit
from engine.evidence import heads
from engine.models import embedded
from storage import BlobStore, Header, Home, StorageError, convert, digest_of, reserve
from tests import tiny
from tests.app import paper
from tests.faults import memory, seam

CODED = "coded2+near4,1"
QUESTION = "What is the access code of room 2?"
COMMANDS = ("read", "ask", "delete", "rename", "doctor")


@dataclass
class Seen:
    """What a process says at its end."""

    error: str = ""
    """What went wrong that must not."""
    refused: list[str] = field(default_factory=list)
    """Sentences of errors, by what was asked for."""
    answers: dict[str, Any] = field(default_factory=dict)
    """By document."""
    documents: list[str] = field(default_factory=list)
    originals: dict[str, bool] = field(default_factory=dict)
    """Whether each is what was added."""
    conversations: int = 0
    pods: dict[str, str] = field(default_factory=dict)
    """Digests of block files that are taken for whole, by document and place."""
    code: int = 0
    ops: int = 0


class Library:
    """A home in which two documents are read, one of them coded, and one is asked, and a third document beside it."""

    def __init__(self, work: Path, encrypted: bool = False) -> None:
        self.work, self.home, self.encrypted = work, work / "home", encrypted
        self._model = work / "model"
        self.settings = Settings(
            home=self.home,
            model="embedded",
            chunk_tokens=128,
            max_answer_tokens=8,
            meaning=False,
            prepare=False,
            threads=1,
        )
        self._stand_in()
        self.kept, self.doomed, self.added = (
            paper.text(work / name, pages) for name, pages in (("kept.txt", 3), ("doomed.txt", 2), ("added.txt", 4))
        )
        self.ids = {path.stem: digest_of(path) for path in (self.kept, self.doomed, self.added)}

    def build(self) -> Seen:
        """Make the homes that trials begin with; returns what is seen in one that nothing happened to."""
        tiny.llama().save_pretrained(self._model)
        tiny.tokenizer().save_pretrained(self._model)
        os.environ[passphrase.VARIABLE] = "of faults"
        made = self.run(self._build)
        assert not made.error, made.error
        shutil.move(self.home, self.work / "closed")
        shutil.move(self.work / "copied", self.work / "killed")
        self.restore("closed")
        self.run(lambda: self._command("read"))
        good = self.run(self._look)
        return replace(good, pods=made.pods | good.pods)

    def restore(self, name: str) -> None:
        """Put a home that was built into its place."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.work / name, self.home)

    def empty(self) -> None:
        """Leave nothing but folders, as a process makes them that goes on."""
        for path in [path for path in self.home.rglob("*") if path.is_file()]:
            path.unlink()

    def command(self, name: str, before: Callable[[], None] = lambda: None) -> Seen:
        """Run one command in a process of its own, which gets ready by `before`."""
        return self.run(lambda: self._command(name), before)

    def look(self) -> Seen:
        """Open the library again, read what is not read, and ask every document."""
        return self.run(self._look)

    def run(self, what: Callable[[], Seen], before: Callable[[], None] = lambda: None) -> Seen:
        """What is done in a forked process; `code` is its exit code, or minus the signal that ended it."""
        report = self.work / "report.json"
        report.unlink(missing_ok=True)
        process = os.fork()
        if not process:
            code = 70
            try:
                before()
                seen = what()
                seam_ops = memory.end() or seam.count()
                seam.arm(self.work / "nothing", seam.Kind(0))
                seen.ops = seam_ops
                report.write_text(json.dumps(vars(seen)))
                code = seen.code
            except BaseException:
                seam.arm(self.work / "nothing", seam.Kind(0))
                report.write_text(json.dumps(vars(Seen(error=traceback.format_exc(), code=70))))
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        seen = Seen(**json.loads(report.read_text())) if report.exists() else Seen()
        seen.code = os.waitstatus_to_exitcode(status)
        return seen

    def _stand_in(self) -> None:
        """A tiny model in the place of the embedded one, which is fetched anew from beside the home."""
        embedded.NAME, embedded.SHA256 = "tiny", "0" * 64
        embedded._fetch = lambda *_: None  # type: ignore[assignment]
        embedded._convert = lambda _, folder: shutil.copytree(self._model, folder)  # type: ignore[assignment]
        reserve.RESERVE_BYTES = 1 << 12
        # Of random weights little can be told.
        basis_fit.MOST_DIVERGENCE = 9.0
        heads.SHIPPED = self.work / "heads"

    def _build(self) -> Seen:
        found = heads.EvidenceHeads("tiny", "0" * 64, ((0, 1), (2, 3)), (0.2, 0.1), "passage")
        # As those of a model that are found out here; were they lost, they would be found anew, and the same.
        for folder in (self.home / "models", heads.SHIPPED):
            found.save(folder)
        if self.encrypted:
            App(self.settings).close()
            Header.new().under("of faults", "passphrase").write(self.home)
            with closing(Home(self.home, passphrase.known, unfinished=True)) as home:
                list(convert(home, "encrypted"))
        app = App(self.settings)
        for path in (self.kept, self.doomed):
            paper.read_here(app, path)
        paper.last(app.questions.ask(self.ids["kept"], QUESTION))
        # One of them is coded: by steps so fine that it answers as an exact one, should it be read again as that.
        basis_fit.prepare(app.model.wait().loaded.runner, self.home / "models", "", lambda _: None, 2, 512)
        app.close()
        app = App(self.settings)
        pods = _pods(self.home, ())
        app.library.choose(self.ids["kept"], CODED)
        for _ in app.library.wait(self.ids["kept"]):
            pass
        app.library.drop(self.ids["kept"], "exact")
        app.library.choose(self.ids["doomed"], "exact")
        app.close()
        app = App(self.settings)
        app.library.rename(self.ids["kept"], "Kept")
        app.library.rename(self.ids["kept"], "kept")
        shutil.copytree(self.home, self.work / "copied")
        app.close()
        # Whoever loses what is coded by reads it again as it was read before.
        return Seen(pods=pods)

    def _command(self, name: str) -> Seen:
        given = {
            "read": ("read", str(self.added)),
            "ask": ("ask", self.ids["kept"], QUESTION),
            "delete": ("delete", self.ids["doomed"]),
            "rename": ("rename", self.ids["kept"], "Kept"),
            "doctor": ("doctor",),
        }[name]
        for setting, value in vars(self.settings).items():
            if value != getattr(Settings(), setting):
                os.environ[f"DOCPOD_{setting.upper()}"] = str(value)
        out, err = io.StringIO(), io.StringIO()
        seen = Seen()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                seen.code = cli.main([*given, "--json"], lambda app: None)
            except BaseException:
                traceback.print_exc()
                seen.code = 70
        seam.mark(f"done {seen.code}")
        said = err.getvalue()
        if "Traceback" in said:
            seen.error = said
        elif seen.code:
            seen.refused.append(said)
        return seen

    def _look(self) -> Seen:
        seen = Seen()
        try:
            self._open_and_ask(seen)
        except (AppError, StorageError) as error:
            seen.refused.append(_sentence(error))
        return seen

    def _open_and_ask(self, seen: Seen) -> None:
        with closing(App(self.settings)) as app:
            seen.documents = sorted(entry.document_id for entry in app.library.catalogue.entries())
            for document_id in seen.documents:
                seen.originals[document_id] = BlobStore(self.home).digest(document_id) == document_id
                try:
                    seen.answers[document_id] = _answer(app, document_id)
                except (AppError, StorageError) as error:
                    seen.refused.append(f"{document_id}: {_sentence(error)}")
            for conversation in app.questions.conversations(self.ids["kept"]):
                turns = app.questions.turns(conversation.conversation_id)
                seen.conversations += any(turn.answer and turn.answer.answer for turn in turns)
            _, damaged = app.verify()
            seen.pods = _pods(self.home, damaged)


def _pods(home: Path, but: Collection[str]) -> dict[str, str]:
    """Digests of block files, by document and place."""
    paths = sorted(path for path in (home / "pods").iterdir() if path.name not in but)
    return {path.name.rpartition("-")[0]: digest_of(path) for path in paths}


def _answer(app: App, document_id: str) -> Mapping[str, Any]:
    """What must not depend on what happened; where damage is found on the way, after it was mended."""
    try:
        return _facts(paper.last(app.questions.ask(document_id, QUESTION)))
    except NotRead:
        for _ in app.library.wait(document_id):
            pass
        return _facts(paper.last(app.questions.ask(document_id, QUESTION)))


def _facts(answer: Answer) -> Mapping[str, Any]:
    cited = [[each.page, each.quote] for each in answer.citations]
    return {"answer": answer.answer, "found": answer.found, "citations": cited, "unsupported": list(answer.unsupported)}


def _sentence(error: Exception) -> str:
    """As the user is told of it; raised again where it is a bug."""
    if (known := as_app_error(error)) is None:
        raise error
    return f"{known.message} {known.hint}"
