"""Intake: what is taken in, under what name, and what is refused with which words."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

from app.errors import (
    AppError,
    DamagedDocument,
    DiskFull,
    DocumentNotFound,
    DocumentTooLarge,
    EmptyDocument,
    PasswordNeeded,
    UnsupportedFile,
    WrongPassword,
)
from app.intake import Intake
from app.main import App
from storage import Document, StorageFull, Store, digest_of
from tests.app import paper
from tests.app.conftest import OpenApp


@pytest.fixture
def intake(app: App) -> Intake:
    return app.library.intake


def parse(intake: Intake, document: Document) -> list[int]:
    """The page numbers that were reported."""
    return [progress.done for progress in intake.parse(document)]


def refused(app: App, path: Path) -> AppError:
    """Why a file is rejected that was taken in, which its entry says too."""
    document = app.library.intake.keep(path, path.name, move=False)
    error = paper.failure(app.library.intake.parse(document))
    progress = app.library.catalogue.entry(document.id).progress
    assert (progress.stage, progress.message, progress.hint) == ("failed", error.message, error.hint)
    assert error.message and error.hint
    return error


def encrypted(path: Path, password: str) -> Path:
    writer = PdfWriter(paper.pdf(path))
    writer.encrypt(password, algorithm="AES-256")
    writer.write(path)
    return path


@pytest.mark.parametrize(
    ("name", "file_name", "title"),
    [
        ("East wing.pdf", "East wing.pdf", "East wing"),
        ("../../etc/passwd", "passwd", "passwd"),
        ("C:\\Users\\ada\\report.v2.pdf", "report.v2.pdf", "report.v2"),
        ("/", "document", "document"),
        ("", "document", "document"),
        ("folder/", "folder", "folder"),
        ("<b onclick='x()'>\"Q&A\"</b>.pdf", "b>.pdf", "b>"),
        ('"quoted" & <i>.pdf', '"quoted" & <i>.pdf', '"quoted" & <i>'),
        ("Prüfbericht 漢字 🙂.pdf", "Prüfbericht 漢字 🙂.pdf", "Prüfbericht 漢字 🙂"),
        ("two\nlines\x00\x07.pdf", "two lines.pdf", "two lines"),
        ("bad \udcff byte.pdf", "bad \ufffd byte.pdf", "bad \ufffd byte"),
        (".pdf", ".pdf", ".pdf"),
        ("x" * 3000 + ".pdf", "x" * 3000 + ".pdf", "x" * 3000),
    ],
)
def test_names_are_shown_and_never_followed(
    intake: Intake, settings, tmp_path: Path, name: str, file_name: str, title: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    document = intake.keep(paper.pdf(tmp_path / "upload"), name, move=True)
    assert (document.file_name, document.title) == (file_name, title)
    added = {settings.home / "documents" / document.id, settings.home / "library.json"}
    assert set(tmp_path.rglob("*")) - set(before) == added


def test_the_same_bytes_are_one_document(intake: Intake, tmp_path: Path) -> None:
    first = intake.keep(paper.text(tmp_path / "a.txt"), "a.txt", move=False)
    second = intake.keep(paper.text(tmp_path / "b.txt"), "b.txt", move=True)
    assert second == first
    assert (tmp_path / "a.txt").exists() and not (tmp_path / "b.txt").exists()


def test_two_uploads_of_one_file_at_once_are_one_document(app: App, settings, tmp_path: Path) -> None:
    files = [paper.text(tmp_path / f"{number}.txt") for number in range(8)]
    added: list[str] = []
    together = threading.Barrier(len(files))

    def add(path: Path) -> None:
        together.wait()
        added.append(app.library.add(path, path.name))

    threads = [threading.Thread(target=add, args=(path,)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(added) == 8 and len(set(added)) == 1
    assert [entry.document_id for entry in app.library.catalogue.entries()] == [added[0]]
    assert [path.name for path in (settings.home / "documents").iterdir()] == [added[0]]


@pytest.mark.parametrize(
    ("contents", "error"),
    [(b"", EmptyDocument), (b"\x89PNG\r\n\x1a\n\0\0", UnsupportedFile), (b"PK\3\4junk", UnsupportedFile)],
)
def test_what_is_neither_pdf_nor_text_is_refused_and_stays(
    app: App, settings, tmp_path: Path, contents: bytes, error: type[AppError]
) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(contents)
    with pytest.raises(error):
        app.library.add(path, "report.pdf")
    assert path.read_bytes() == contents
    assert app.library.catalogue.entries() == list((settings.home / "documents").iterdir()) == []


def test_a_file_over_the_limit_is_refused_and_stays(open_app: OpenApp, tmp_path: Path) -> None:
    app = open_app(max_upload_mb=1)
    path = tmp_path / "a.txt"
    path.write_text("a" * 1_000_001)
    with pytest.raises(DocumentTooLarge, match=r"1\.0 MB; the limit is 1 MB"):
        app.library.add(path, "a.txt")
    assert path.exists() and app.library.catalogue.entries() == []
    path.write_text("a" * 1_000_000)
    assert app.library.add(path, "a.txt")


def test_a_full_disk_refuses_the_file(app: App, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull(2_000_000_000, 1_000_000_000)

    monkeypatch.setattr("storage.blobs.BlobStore.put_file", full)
    path = paper.text(tmp_path / "a.txt")
    with pytest.raises(DiskFull, match=r"2\.0 GB are needed, 1\.0 GB are free"):
        app.library.add(path, "a.txt")
    assert path.exists() and app.library.catalogue.entries() == []


def test_a_full_disk_while_pages_are_saved_leaves_the_document_to_be_parsed_again(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = app.library.intake
    document = intake.keep(paper.text(tmp_path / "a.txt"), "a.txt", move=False)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save_pages", lambda *_: (_ for _ in ()).throw(StorageFull(0, 0)))
        assert isinstance(paper.failure(intake.parse(document)), DiskFull)
    assert app.library.catalogue.entry(document.id).progress.stage == "queued"
    assert parse(intake, document)
    assert app.library.catalogue.entry(document.id).pages


def test_markdown_is_known_by_its_name(intake: Intake, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text("# Heading\n\nText.")
    assert intake.keep(path, "notes.MD", move=False).media_type == "text/markdown"


def test_parsing_reports_every_page_and_is_done_once(app: App, tmp_path: Path) -> None:
    document = app.library.intake.keep(paper.pdf(tmp_path / "a.pdf"), "a.pdf", move=False)
    assert parse(app.library.intake, document) == [1, 2, 3, 4]
    assert parse(app.library.intake, app.library.catalogue.document(document.id)) == []


def truncated(path: Path) -> None:
    paper.pdf(path)
    path.write_bytes(path.read_bytes()[:300])


def without_pages(path: Path) -> None:
    PdfWriter().write(path)


def blank(path: Path) -> None:
    document = FPDF()
    document.add_page()
    document.output(str(path))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (truncated, DamagedDocument, "damaged"),
        (without_pages, EmptyDocument, "no pages"),
        (blank, EmptyDocument, "None of the 1 pages has text"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_rejected_with_its_reason(
    app: App, tmp_path: Path, make: Callable[[Path], None], error: type[AppError], says: str
) -> None:
    path = tmp_path / "a.pdf"
    make(path)
    found = refused(app, path)
    assert type(found) is error
    assert says in found.message


def test_too_many_pages_are_rejected_and_can_be_read_under_another_limit(open_app: OpenApp, tmp_path: Path) -> None:
    path = paper.pdf(tmp_path / "a.pdf")
    strict = open_app(max_pages=3)
    assert isinstance(refused(strict, path), DocumentTooLarge)
    strict.close()
    app = open_app()
    document = app.library.intake.keep(path, "a.pdf", move=False)
    assert parse(app.library.intake, document) == [1, 2, 3, 4]
    assert app.library.catalogue.entry(document.id).progress.stage == "queued"


def test_an_encrypted_pdf_is_opened_once_and_for_good(open_app: OpenApp, settings, tmp_path: Path) -> None:
    app = open_app()
    app.start()
    path = encrypted(tmp_path / "a.pdf", "sesame")
    document_id = app.library.add(path, "a.pdf")
    assert paper.wait_for(app, document_id, "locked").progress.message
    with pytest.raises(WrongPassword):
        app.library.unlock(document_id, "simsim")
    assert paper.wait_for(app, document_id, "locked")
    app.library.unlock(document_id, "sesame")
    assert paper.wait_for(app, document_id, "ready").pages == 4
    (stored,) = (settings.home / "documents").iterdir()
    assert stored.stat().st_mode & 0o777 == 0o600
    assert stored.name == digest_of(stored) != document_id
    app.close()

    again = open_app()
    assert again.library.catalogue.entry(document_id).progress.stage == "ready"
    assert again.library.page_image(document_id, 2)
    assert again.library.add(encrypted(tmp_path / "a.pdf", "sesame"), "a.pdf") != document_id
    assert paper.last(again.questions.ask(document_id, "What is the access code of room 2?")).citations[0].page == 2


def test_a_locked_document_stays_as_it_is(intake: Intake, tmp_path: Path) -> None:
    path = encrypted(tmp_path / "a.pdf", "sesame")
    document = intake.keep(path, "a.pdf", move=False)
    assert isinstance(paper.failure(intake.parse(document)), PasswordNeeded)
    with pytest.raises(WrongPassword):
        intake.unlock(document, "")
    with intake.opened(document) as kept:
        assert kept.read_bytes() == path.read_bytes()
    assert isinstance(paper.failure(intake.parse(document)), PasswordNeeded)


def test_a_document_that_is_deleted_while_it_is_parsed_ends_quietly(app: App, tmp_path: Path) -> None:
    document = app.library.intake.keep(paper.pdf(tmp_path / "a.pdf"), "a.pdf", move=False)
    pages = app.library.intake.parse(document)
    next(pages)
    app.library.intake.forget(document)
    assert isinstance(paper.failure(pages), DocumentNotFound)
    assert app.library.catalogue.entries() == []


def test_a_long_pdf(app: App, tmp_path: Path) -> None:
    page = PdfReader(paper.pdf(tmp_path / "one.pdf", pages=1)).pages[0]
    writer = PdfWriter()
    for _ in range(2400):
        writer.add_page(page)
    writer.write(tmp_path / "long.pdf")
    document = app.library.intake.keep(tmp_path / "long.pdf", "long.pdf", move=False)
    assert parse(app.library.intake, document)[-1] == 2400
    entry = app.library.catalogue.entry(document.id)
    assert (entry.pages, entry.pages_without_text) == (2400, 0)


def test_the_process_that_reads_files_loads_no_model() -> None:
    """It starts for every page image, and torch alone takes seconds to load."""
    command = "import sys, app.readers.worker; print({'torch', 'sqlalchemy', 'gradio', 'engine'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", command], cwd=paper.ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
