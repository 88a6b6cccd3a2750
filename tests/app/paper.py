"""Small documents for a tiny model, and patience for what happens to them in the background."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from fpdf import FPDF

from app.errors import AppError
from app.events import Answer, AskEvent, DocumentEntry, Progress
from app.main import App
from app.readers.text import PAGE_ROWS
from app.settings import Settings
from engine.evidence.heads import EvidenceHeads
from engine.models import loader
from storage import Reading
from tests.app.command import Command

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0
"""How long something may take that must happen: long, because the machine may be busy with other things."""


def code(number: int) -> int:
    """The access code that stands on a page."""
    return 4000 + 37 * number


def page_text(number: int) -> str:
    """A page with one fact."""
    return (
        f"Inspection of room {number}.\n\nThe access code of room {number} is {code(number)}. The lamp was lit.\n"
        "Nobody had seen the porter that day, and the cat was asleep."
    )


def pdf(path: Path, pages: int = 4) -> Path:
    """A PDF with one fact a page."""
    document = FPDF()
    document.set_title("Rooms of the east wing")
    document.set_font("helvetica", size=12)
    for number in range(1, pages + 1):
        document.add_page()
        document.start_section(f"Room {number}")
        document.multi_cell(0, text=page_text(number))
    document.output(str(path))
    return path


def text(path: Path, pages: int = 4) -> Path:
    """A plain text of so many pages, which is parsed faster than a PDF."""
    rows = [page_text(number).split("\n") for number in range(1, pages + 1)]
    path.write_text("\n".join("\n".join([*each, *[""] * (PAGE_ROWS - len(each))]) for each in rows).rstrip())
    return path


def prepare_models(model: Path, folder: Path) -> Path:
    """What a home's folder of models holds once this model was used there: its heads need not be searched for then."""
    loaded = loader.load(str(model), folder, lambda sentence: None)
    EvidenceHeads(loaded.name, loaded.digest, ((0, 1), (2, 3)), (0.2, 0.1), "passage").save(folder)
    return folder


def wait_until(condition: Callable[[], bool], what: str = "it") -> None:
    """Return as soon as the condition holds; fail the test where that takes too long."""
    patience_ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > patience_ends:
            pytest.fail(f"waited {PATIENCE_SECONDS} seconds for {what}")
        # Most conditions ask the database, which a busy machine has better things to do than.
        time.sleep(0.03)


def wait_for(app: App, document_id: str, *stages: str) -> DocumentEntry:
    """The entry of a document once it is at one of the stages."""
    wait_until(lambda: app.library.catalogue.entry(document_id).progress.stage in stages, " or ".join(stages))
    return app.library.catalogue.entry(document_id)


def planned(app: App, path: Path) -> Reading:
    """The reading of a document that is parsed, of which nothing is read."""
    document_id = app.library.add(path, path.name, move=False)
    assert list(app.library.ingest.parse(document_id))
    list(app.library.ingest.plan(document_id))
    (reading,) = app.library.catalogue.readings(document_id)
    return reading


def read_here(app: App, path: Path) -> str:
    """Read a file in this thread, as the command line does; returns the document's id."""
    document_id = app.library.add(path, path.name, move=False)
    for _ in app.library.wait(document_id):
        pass
    return document_id


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of `run_app.py` in a process of its own, on the home and the model of the settings."""
    process = start(settings, *arguments)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(settings: Settings, *arguments: str) -> Command:
    """A process with one command of `run_app.py`, on one processor thread."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DOCPOD_")}
    environment |= {f"DOCPOD_{name.upper()}": str(value) for name, value in asdict(settings).items()}
    environment["OMP_NUM_THREADS"] = "1"
    return Command(arguments, environment)


def last(events: Iterator[AskEvent]) -> Answer:
    """The answer at the end of the events."""
    *_, answer = events
    assert isinstance(answer, Answer)
    return answer


def failure(work: Iterator[Progress] | Iterator[AskEvent]) -> AppError:
    """The error that the work ends with."""
    with pytest.raises(AppError) as caught:
        for _ in work:
            pass
    return caught.value


def blocks(home: Path) -> dict[str, bytes]:
    """The block files by name, without what makes each name unique."""
    return {path.name.rpartition("-")[0]: path.read_bytes() for path in (home / "pods").iterdir()}


def everything(home: Path) -> bytes:
    """All bytes of the library: the database with its log, documents and pods."""
    files = [path for path in home.rglob("*") if path.is_file() and "models" not in path.parts]
    return b"".join(path.read_bytes() for path in files)
