"""What holds for every format, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import Image

from app.errors import DamagedDocument, DocumentTooLarge, EmptyDocument, UnsupportedFile
from app.readers import ACCEPT, NAMES, READERS, ParsedPage, ReaderLimits, open_document, page_image, sniff
from app.readers.base import clean
from tests.app import paper, test_readers_epub


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


WRITERS = {
    "application/pdf": write_pdf,
    "application/epub+zip": write_epub,
    "text/markdown": write_text,
    "text/plain": write_text,
}
SUFFIXES = {
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "text/markdown": ".md",
    "text/plain": ".txt",
}


@pytest.fixture(params=[form.media_type for form in READERS])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / f'it\'s <b>ünïcode "quoted"; {SUFFIXES[request.param]}'
    WRITERS[request.param](path)
    return path, request.param


class TestEveryFormat:
    def test_is_told_by_its_bytes(self, document: tuple[Path, str]) -> None:
        assert sniff(document[0]) == document[1]

    def test_pages_come_once_and_in_order(self, document: tuple[Path, str]) -> None:
        opened = open_document(*document)
        pages = list(opened.pages())
        assert [page.number for page in pages] == list(range(1, opened.info.num_pages + 1))
        assert len(pages) > 1
        assert {page.state for page in pages} == {"ok"}

    def test_words_index_the_text_and_boxes_lie_on_the_page(self, document: tuple[Path, str]) -> None:
        for page in open_document(*document).pages():
            words = [page.text[word.start : word.end] for word in page.words]
            assert words == page.text.split()
            for word in page.words:
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

    def test_ink_lies_inside_the_boxes(self, document: tuple[Path, str], tmp_path: Path) -> None:
        page = list(open_document(*document).pages())[1]
        drawn = tmp_path / "page"
        drawn.write_bytes(page_image(*document, 2, 900))
        with Image.open(drawn) as image:
            assert_ink_matches(image.convert("L"), page)
            assert abs(image.width - 900) <= 1
            assert abs(image.height / image.width - page.height_pt / page.width_pt) < 0.01


def assert_ink_matches(image: Image.Image, page: ParsedPage) -> None:
    """Every box holds ink, and the ink outside of all boxes is none."""
    dark = image.point(lambda value: 255 if value < 160 else 0)
    for word in page.words:
        box = (word.x0 * image.width, word.y0 * image.height, word.x1 * image.width, word.y1 * image.height)
        assert dark.crop(tuple(map(round, box))).getbbox(), page.text[word.start : word.end]
    for word in page.words:
        box = (word.x0 * image.width, word.y0 * image.height, word.x1 * image.width, word.y1 * image.height)
        dark.paste(0, (int(box[0]) - 1, int(box[1]) - 1, int(box[2]) + 2, int(box[3]) + 2))
    assert dark.getbbox() is None


def test_the_names_of_the_formats_and_what_may_be_chosen_come_from_their_list() -> None:
    assert NAMES == "PDF, EPUB, Markdown or text"
    assert {*ACCEPT.split(",")} == {*SUFFIXES, *SUFFIXES.values(), ".markdown"}


class TestSniff:
    def test_junk_before_the_header_of_a_pdf_is_allowed(self, tmp_path: Path) -> None:
        path = tmp_path / "scan.txt"
        path.write_bytes(b"\xff" * 900 + b"%PDF-1.7\n")
        assert sniff(path) == "application/pdf"

    def test_a_name_never_makes_a_pdf(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.pdf"
        path.write_text("Dear reader")
        assert sniff(path) == "text/plain"
        assert sniff(path, name="letter.Markdown") == "text/markdown"

    @pytest.mark.parametrize(
        "content", [b"\x89PNG\r\n\x1a\n", "Grüße".encode("latin-1"), b"text\0text", b"cut \xe2\x82"]
    )
    def test_other_bytes_are_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(content)
        with pytest.raises(UnsupportedFile) as caught:
            sniff(path)
        assert "UTF-8" in caught.value.hint

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
