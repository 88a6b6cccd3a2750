"""A reading process that a file has taken over reads that file, and nothing else."""

import json
import os
import sys
from pathlib import Path

import pytest

from app.errors import DamagedDocument
from app.readers import confinement, highlight, open_document, sandbox
from app.readers.base import ReaderLimits
from tests.app import attacker, paper

HELD = sys.platform == "linux" and confinement()
START = "import sys; sys.path[:] = sys.argv[1:]; from tests.app.attacker import main; main()"
ABORTS = "from app.readers import worker; app.readers.text.open_reader = lambda _: os.abort(); worker.main()"
needs_both = pytest.mark.skipif("Landlock" not in HELD or "no " in HELD, reason=f"held by {HELD}")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document of a home with others in it, which an attacker reads; everything is open to every user."""
    home = tmp_path / "home"
    (home / "documents").mkdir(parents=True)
    (home / "docpod.sqlite3").write_text("secret")
    (home / "documents" / "other.txt").write_text("secret")
    own = home / "documents" / "own.txt"
    own.write_text("The text of the file.")
    for path in (home, *home.rglob("*")):
        path.chmod(0o777)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o711)
    monkeypatch.setattr(sandbox, "_START", START)
    return own


def attack(own: Path) -> list[str]:
    document = open_document(own, "text/plain")
    assert [page.text for page in document.pages()] == ["The text of the file."]
    done: list[str] = json.loads(document.info.title)
    return done


@needs_both
@pytest.mark.parametrize("user", ["", "65534"])
def test_nothing_but_its_own_file_is_to_be_had(own: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if user and os.geteuid():
        pytest.skip("only root can be another user")
    monkeypatch.setenv("ATTACKER_USER", user)
    assert attack(own) == []
    assert own.read_text() == "The text of the file."


def test_without_confinement_these_are_attacks(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = START.replace("; main()", "; from app.readers import worker; worker.confine = lambda *_: ''; main()")
    monkeypatch.setattr(sandbox, "_START", free)
    for kind in ("read", "list", "open"):
        monkeypatch.setenv("ATTACKER_ONLY", kind)
        expected = {name for name in attacker.attacks(own.parents[1]) if name.startswith(kind)}
        assert expected - set(attack(own)) <= {"read another process"}


@needs_both
def test_what_is_written_goes_into_the_file_that_was_named(tmp_path: Path) -> None:
    source, marked = paper.pdf(tmp_path / "a.pdf"), tmp_path / "marked.pdf"
    highlight(source, [(1, [(0.1, 0.1, 0.2, 0.2)], "note")], marked)
    assert marked.read_bytes().startswith(b"%PDF")
    assert open_document(marked, "application/pdf").info.num_pages == 4


def test_limits_are_for_good(own: Path) -> None:
    limits = ReaderLimits(page_seconds=1, convert_seconds=1, batch_pages=1)
    assert open_document(own, "text/plain", limits).info.num_pages == 1


@needs_both
def test_a_library_may_end_its_own_process(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_START", START.replace("; main()", "; import os, app.readers.text; " + ABORTS))
    with pytest.raises(DamagedDocument, match="stopped the process"):
        open_document(own, "text/plain")
