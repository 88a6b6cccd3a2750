"""One file of every format through the whole app: added, read, asked, and its page shown."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import Image

from app.main import App
from app.readers import READERS, by_media_type
from tests.app import made, paper, test_readers_epub

FACT = "The access code of room 7 is 4711."
PARAGRAPHS = ("The lamp was lit.", FACT, "The cat was asleep.")


def pdf(path: Path) -> None:
    document = FPDF()
    document.add_page()
    document.set_font("helvetica", size=12)
    document.multi_cell(0, text="\n\n".join(PARAGRAPHS))
    document.output(str(path))


def html(body: str) -> str:
    return "".join(f"<p>{each}</p>" for each in PARAGRAPHS) + body


ROWS = [["room", "access code"], ["6", "1234"], ["7", "4711"]]
WRITERS: dict[str, Callable[[Path], object]] = {
    ".pdf": pdf,
    ".docx": lambda path: made.docx(path, "".join(map(made.paragraph, PARAGRAPHS))),
    ".pptx": lambda path: made.pptx(path, [("Rooms", "\n".join(PARAGRAPHS))]),
    ".xlsx": lambda path: made.xlsx(path, {"Rooms": ROWS}),
    ".epub": lambda path: test_readers_epub.book(path, html("")),
    ".html": lambda path: path.write_text(html("<script>x</script>")),
    ".csv": lambda path: path.write_text("\n".join(";".join(row) for row in ROWS)),
    ".md": lambda path: path.write_text("# Rooms\n\n" + "\n\n".join(PARAGRAPHS)),
    ".txt": lambda path: path.write_bytes("\n\n".join(("Grüße aus Köln, schöne Tage.", *PARAGRAPHS)).encode("cp1252")),
}


@pytest.mark.parametrize("suffix", [form.suffixes[0] for form in READERS])
def test_a_file_is_added_read_asked_and_shown(app: App, tmp_path: Path, suffix: str) -> None:
    WRITERS[suffix](path := tmp_path / f"rooms{suffix}")
    document_id = app.library.add(path, path.name, move=False)
    list(app.library.wait(document_id))
    entry = app.library.catalogue.entry(document_id)
    assert (entry.progress.stage, entry.pages_without_text) == ("ready", 0)
    assert ("Windows-1252" in entry.note) == (suffix == ".txt")
    answer = paper.last(app.questions.ask(document_id, "What is the access code of room 7?"))
    assert "4711" in answer.citations[0].quote
    assert answer.citations[0].boxes and all(0 < edge < 1 for box in answer.citations[0].boxes for edge in box)
    with Image.open(BytesIO(app.library.page_image(document_id, 1, 600))) as image:
        assert image.convert("L").getextrema()[0] < 100


def test_every_format_has_a_file_here() -> None:
    assert {by_media_type(form.media_type).suffixes[0] for form in READERS} == WRITERS.keys()
