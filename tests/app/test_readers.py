"""What holds for every format, and what is refused."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import Image

from app.errors import DamagedDocument, DocumentTooLarge, EmptyDocument, UnsupportedFile
from app.readers import (
    ACCEPT,
    NAMES,
    READERS,
    ParsedPage,
    ReaderLimits,
    Word,
    by_media_type,
    open_document,
    page_image,
    sniff,
    typeset_image,
)
from app.readers.base import clean
from app.readers.typeset import words as typeset_words
from tests.app import made, paper, test_readers_epub


def write_pdf(path: Path) -> None:
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    for number in range(1, 4):
        pdf.add_page()
        pdf.multi_cell(0, text=f"Page {number} of the harbour book. " * 40)
    pdf.output(str(path))


def write_text(path: Path) -> None:
    path.write_text("\n\n".join(f"{n}. The pilot boat left at {n % 24}:00 for the bar. " * 4 for n in range(60)))


def write_epub(path: Path) -> None:
    chapters = (f"<h1>{n}</h1>" + "<p>The pilot boat left for the bar. </p>" * 60 for n in range(3))
    test_readers_epub.book(path, *chapters)


def write_html(path: Path) -> None:
    path.write_text("<h1>Log</h1>" + "<p>The pilot boat left for the bar. </p>" * 200)


def write_csv(path: Path) -> None:
    path.write_text("boat,hour\n" + "".join(f"pilot {n},{n % 24}\n" for n in range(100)))


def write_docx(path: Path) -> None:
    made.docx(path, "<w:p><w:r><w:t>The pilot boat left for the bar.</w:t></w:r></w:p>" * 200)


def write_pptx(path: Path) -> None:
    made.pptx(path, [("Boats", "The pilot boat left for the bar."), ("Lamps", "The lamp burned all night.")])


def write_xlsx(path: Path) -> None:
    made.xlsx(path, {"Log": [["boat", "hour"], *(["pilot", n % 24] for n in range(100))]})


WRITERS = {
    ".pdf": write_pdf,
    ".docx": write_docx,
    ".pptx": write_pptx,
    ".xlsx": write_xlsx,
    ".epub": write_epub,
    ".html": write_html,
    ".csv": write_csv,
    ".md": write_text,
    ".txt": write_text,
}


@pytest.fixture(params=[form.media_type for form in READERS])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    suffix = by_media_type(request.param).suffixes[0]
    path = tmp_path / f'it\'s <b>ünïcode "quoted"; {suffix}'
    WRITERS[suffix](path)
    # A file of the library has no ending.
    return path.rename(path.with_suffix("")), request.param


class TestEveryFormat:
    def test_is_told_by_its_bytes(self, document: tuple[Path, str]) -> None:
        assert sniff(document[0], f"a{by_media_type(document[1]).suffixes[0]}") == document[1]

    def test_pages_come_once_and_in_order(self, document: tuple[Path, str]) -> None:
        opened = open_document(*document)
        pages = list(opened.pages())
        assert [page.number for page in pages] == list(range(1, opened.info.num_pages + 1))
        assert len(pages) > 1
        assert {page.state for page in pages} == {"ok"}

    @pytest.mark.usefixtures("in_this_process")
    def test_words_index_the_text_and_boxes_lie_on_the_page(self, document: tuple[Path, str]) -> None:
        for page in open_document(*document).pages():
            assert [page.text[word.start : word.end] for word in places(page)] == page.text.split()
            for word in places(page):
                assert 0 <= word.x0 < word.x1 <= 1
                assert 0 <= word.y0 < word.y1 <= 1

    def test_batches_and_repetition_change_nothing(self, document: tuple[Path, str]) -> None:
        whole = list(open_document(*document).pages())
        opened = open_document(*document, limits=ReaderLimits(batch_pages=2))
        assert list(opened.pages()) == whole
        assert next(opened.pages()) == whole[0]

    def test_too_many_pages_are_refused_with_the_numbers(self, document: tuple[Path, str]) -> None:
        with pytest.raises(DocumentTooLarge, match=r"has \d+ pages; the limit is 1\."):
            open_document(*document, limits=ReaderLimits(max_pages=1))

    @pytest.mark.usefixtures("in_this_process")
    def test_ink_lies_inside_the_boxes(self, document: tuple[Path, str], tmp_path: Path) -> None:
        page = list(open_document(*document).pages())[1]
        drawn = tmp_path / "page"
        typeset = by_media_type(document[1]).typeset
        drawn.write_bytes(typeset_image(page.text, 900) if typeset else page_image(*document, 2, 900))
        with Image.open(drawn) as image:
            assert_ink_matches(image.convert("L"), page)
            assert abs(image.width - 900) <= 1
            assert abs(image.height / image.width - page.height_pt / page.width_pt) < 0.01


def places(page: ParsedPage) -> tuple[Word, ...]:
    """Where the words of a page stand, whoever says so."""
    return typeset_words(page.text) if page.words is None else page.words


def assert_ink_matches(image: Image.Image, page: ParsedPage) -> None:
    """Every box holds ink, and the ink outside of all boxes is none."""
    dark = image.point(lambda value: 255 if value < 160 else 0)
    for word in places(page):
        box = (word.x0 * image.width, word.y0 * image.height, word.x1 * image.width, word.y1 * image.height)
        assert dark.crop(tuple(map(round, box))).getbbox(), page.text[word.start : word.end]
    for word in places(page):
        box = (word.x0 * image.width, word.y0 * image.height, word.x1 * image.width, word.y1 * image.height)
        dark.paste(0, (int(box[0]) - 1, int(box[1]) - 1, int(box[2]) + 2, int(box[3]) + 2))
    assert dark.getbbox() is None


def test_the_names_of_the_formats_and_what_may_be_chosen_come_from_their_list() -> None:
    assert NAMES == "PDF, Word, PowerPoint, Excel, EPUB, HTML, CSV, Markdown or text"
    others = {".markdown", ".htm", ".xhtml", ".tsv", ".docpod"}
    assert {*ACCEPT.split(",")} == {*WRITERS, *(form.media_type for form in READERS), *others}


class TestSniff:
    def test_junk_before_the_header_of_a_pdf_is_allowed(self, tmp_path: Path) -> None:
        path = tmp_path / "scan.txt"
        path.write_bytes(b"\xff" * 900 + b"%PDF-1.7\n")
        assert sniff(path) == "application/pdf"

    def test_a_name_never_makes_a_pdf(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.pdf"
        path.write_text("Dear reader")
        with pytest.raises(UnsupportedFile, match=r"named \.pdf, but is plain text"):
            sniff(path)
        assert sniff(path, name="letter.Markdown") == "text/markdown"

    @pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.xlsx", "a.pptx", "a.epub", "a.txt", "a.csv", "a"])
    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (random.Random(1).randbytes(5000), "holds no PDF"),
            (b"\0\1\2junk\3" * 40, "holds no PDF"),
            (b"PK\3\4junk", "a ZIP archive"),
            (b"\x89PNG\r\n\x1a\n", "a picture"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old or a protected Office file"),
            (b"{\\rtf1 Dear reader}", "an RTF file"),
            (b"\x7fELF" + bytes(90), "a program"),
        ],
    )
    def test_junk_is_refused_with_what_it_is(self, tmp_path: Path, name: str, content: bytes, what: str) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnsupportedFile) as caught:
            sniff(path)
        assert what in caught.value.message and caught.value.hint
        assert (f"named {path.suffix}" in caught.value.message) == bool(path.suffix)

    @pytest.mark.parametrize("content", [b"not a pdf", b"<html>404 Not Found</html>", b"junk " * 900])
    def test_text_named_like_another_format_is_told(self, tmp_path: Path, content: bytes) -> None:
        for suffix in (".pdf", ".docx"):
            (path := tmp_path / f"bad{suffix}").write_bytes(content)
            with pytest.raises(UnsupportedFile, match=r"is plain text, no (PDF|Word) file"):
                sniff(path)

    def test_a_page_without_a_name_for_it_is_told_by_its_beginning(self, tmp_path: Path) -> None:
        (path := tmp_path / "page").write_bytes(b"\n<!-- saved -->\n<!DOCTYPE html><html><body>text</body></html>")
        assert sniff(path) == "text/html"
        assert sniff(path, "page.txt") == "text/plain"

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pdf"
        path.touch()
        with pytest.raises(EmptyDocument):
            sniff(path)

    def test_a_process_that_may_use_no_memory_costs_the_document_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("text")
        with pytest.raises(DamagedDocument):
            open_document(path, "text/plain", limits=ReaderLimits(memory_bytes=1 << 20))


def test_a_letter_and_its_accent_are_one() -> None:
    assert clean("A\u030alesund, cafe\u0301") == "\u00c5lesund, caf\u00e9"


def test_clean_keeps_words_and_drops_what_is_no_text() -> None:
    assert clean("a\x00b\ufffe\x02c\r\nd\re\x0cf\ud83d\ude00\ud800\t\xad") == "abc\nd\ne\nf\U0001f600\ufffd\t\xad"


def test_the_reading_process_loads_neither_model_nor_database() -> None:
    """It starts for every document and page image, so it must start fast, and it should hold nothing worth stealing."""
    code = "import sys, app.readers.worker; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=paper.ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sqlalchemy", "gradio", "engine", "storage"} & set(done.stdout.split())


def test_the_reading_process_starts_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it imports is found where this process finds it, whatever the folder and the environment say."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('another app')")
    write_text(tmp_path / "notes.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert next(open_document(Path("notes.txt"), "text/plain").pages()).text.startswith("0. The pilot boat")
