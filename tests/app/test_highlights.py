"""Highlights in a copy of a PDF, found again by another library where the passage is, however the page is shown."""

from io import BytesIO
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from fpdf import FPDF
from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Text
from pypdf.generic import RectangleObject

from app.errors import DamagedDocument
from app.passages import Passage, boxes
from app.readers import highlight, open_document, page_image

PDF = "application/pdf"
LINES = (
    "Above it stands the harbour office.",
    "The tower is 41.5 metres high,",
    "and its lamp is of 1873.",
    "Below is sea.",
)
PASSAGE = "\n".join(LINES[1:3])


def tower(
    path: Path, rotation: int = 0, crop: tuple[float, float, float, float] | None = None, **encrypted: str
) -> Path:
    pdf = FPDF(unit="pt", format=(400, 300))
    pdf.set_font("helvetica", size=14)
    for _ in range(2):
        pdf.add_page()
        pdf.multi_cell(0, text="\n".join(LINES))
    writer = PdfWriter(BytesIO(pdf.output()))
    page = writer.pages[1]
    page.rotate(rotation)
    if crop:
        page.cropbox = RectangleObject(crop)
    writer.add_annotation(1, Text(rect=(300, 20, 320, 40), text="An older note."))
    if encrypted:
        writer.encrypt(**encrypted)
    writer.write(path)
    return path


def passage_boxes(path: Path) -> list[tuple[float, float, float, float]]:
    page = list(open_document(path, PDF).pages())[1]
    start = page.text.index(PASSAGE)
    return list(boxes(Passage(2, start, start + len(PASSAGE), PASSAGE), page.words))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("rotation", "crop"),
    [
        (0, None),
        (90, None),
        (180, (20, 150, 300, 290)),
        (270, (20, 150, 300, 290)),
        # Larger than the page, and a crop that leaves nothing of it.
        (90, (-50, -50, 900, 900)),
        (0, (30, 30, 30, 30)),
    ],
)
def test_a_passage_is_marked_where_it_stands(
    tmp_path: Path, rotation: int, crop: tuple[float, float, float, float] | None
) -> None:
    path, marked = tower(tmp_path / "tower.pdf", rotation, crop), tmp_path / "marked.pdf"
    places, note = passage_boxes(path), "Wie hoch? 🗼\n\n41,5 m (p. 2)"
    highlight(path, [(2, places, note)], marked)
    first, second = PdfReader(marked).pages
    assert "/Annots" not in first
    _, annotation = (each.get_object() for each in second["/Annots"])
    assert (annotation["/Subtype"], annotation["/Contents"], annotation["/F"]) == ("/Highlight", note, 4)
    points = [float(each) for each in annotation["/QuadPoints"]]
    assert len(points) == 8 * len(places)
    document = pdfium.PdfDocument(marked)
    letters = document[1].get_textpage()
    read = []
    for at in range(0, len(points), 8):
        across, up = points[at : at + 8 : 2], points[at + 1 : at + 8 : 2]
        read += letters.get_text_bounded(min(across), min(up), max(across), max(up)).split()
    assert read == PASSAGE.split()
    left, bottom, right, top = (float(each) for each in annotation["/Rect"])
    assert (left, right) == pytest.approx((min(points[::2]), max(points[::2])), abs=0.01)
    assert (bottom, top) == pytest.approx((min(points[1::2]), max(points[1::2])), abs=0.01)
    assert yellow(marked) == pytest.approx(sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in places), rel=0.2)
    with Image.open(BytesIO(page_image(marked, PDF, 2, 800))) as image:
        for x0, y0, x1, y1 in places:
            box = (x0 * image.width + 2, y0 * image.height + 2, x1 * image.width - 2, y1 * image.height - 2)
            red, _, blue = image.convert("RGB").crop(tuple(map(round, box))).getpixel((0, 0))
            assert red > 200 and blue < 100


def yellow(path: Path) -> float:
    """The share of the second page that is as yellow as a mark, with the letters on it."""
    with Image.open(BytesIO(page_image(path, PDF, 2, 800))) as image:
        counts = image.convert("RGB").getcolors(1 << 20)
        return sum(count for count, (r, _, b) in counts if b < 0.6 * r or r < 128) / (image.width * image.height)


@pytest.mark.usefixtures("in_this_process")
def test_a_passage_without_a_place_has_a_note_in_the_corner(tmp_path: Path) -> None:
    highlight(tower(tmp_path / "tower.pdf"), [(1, [], "Where?")], tmp_path / "marked.pdf")
    (annotation,) = (each.get_object() for each in PdfReader(tmp_path / "marked.pdf").pages[0]["/Annots"])
    assert (annotation["/Subtype"], annotation["/Contents"]) == ("/Text", "Where?")
    assert float(annotation["/Rect"][3]) > 280


@pytest.mark.usefixtures("in_this_process")
def test_a_copy_of_a_protected_file_opens(tmp_path: Path) -> None:
    path = tower(tmp_path / "tower.pdf", user_password="", owner_password="secret", algorithm="AES-256")
    highlight(path, [(2, passage_boxes(path), "A note")], tmp_path / "marked.pdf")
    reader = PdfReader(tmp_path / "marked.pdf")
    assert not reader.is_encrypted and "41.5 metres" in reader.pages[1].extract_text()


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(DamagedDocument):
        highlight(tmp_path / "broken.pdf", [], tmp_path / "marked.pdf")
    with pytest.raises(DamagedDocument):
        highlight(tower(tmp_path / "tower.pdf"), [(9, [], "No such page")], tmp_path / "marked.pdf")
    assert not (tmp_path / "marked.pdf").exists()
